// Five tasks of an informatician, each from the home page on; `click` counts.
const link = (page, name) => page.getByRole("main").getByRole("link", { name }).first();
const menu = (page, name) => page.getByRole("navigation", { name: "Main" }).getByRole("link", { name, exact: true });

export const TASKS = {
  async "why no EEG card"(page, click, { patient, client }) {
    await page.getByLabel("Patient id").fill(patient);
    await page.getByLabel("Client").fill(client);
    await click(page.getByRole("button", { name: "Find this patient" }));
    await click(page.locator("tbody th a").first());
    await click(page.getByRole("navigation", { name: "Why no card" }).getByRole("link", { name: "EEG" }));
  },
  async "from a card to its passage"(page, click) {
    await click(menu(page, "Decisions"));
    await click(page.locator("tbody tr", { hasText: "(critical)" }).first().getByRole("link").first());
    await click(page.locator(".passages a").first());
  },
  async "what changed and whom it touches"(page, click) {
    await click(menu(page, "Compare"));
    await click(page.getByRole("button", { name: "Compare", exact: true }));
    await page.locator(".figures").waitFor({ timeout: 120_000 });
  },
  async "most overridden rules and the chief reason"(page) {
    await page.getByRole("heading", { name: "Most overridden" }).waitFor();
  },
  async "stop one rule"(page, click, { rule, reason }) {
    await click(menu(page, "Rules"));
    await click(link(page, rule));
    await page.getByLabel(/^Why/).fill(reason);
    await click(page.getByRole("button", { name: "Stop the rule" }));
  },
};
