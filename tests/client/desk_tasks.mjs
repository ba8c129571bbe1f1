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

  // No task of anybody's: each form does its work without JavaScript. What does not come is waited for in vain.
  async "every form"(page, click) {
    const press = (name) => click(page.getByRole("main").getByRole("button", { name, exact: true }).first());
    const comes = (text) => page.getByRole("main").getByText(text).first().waitFor();
    await click(menu(page, "Rules"));
    await page.getByLabel("Contains").fill("calcium");
    await press("Filter");
    await page.waitForURL(/q=calcium/);
    await comes(/^Rules: [1-9]/);
    await click(menu(page, "Decisions"));
    await page.getByLabel("Outcome", { exact: true }).selectOption("recommended");
    await press("Search");
    await comes(/[1-9]\d* found/);
    await click(menu(page, "Analytics"));
    await page.getByLabel("Time", { exact: true }).selectOption("4");
    await press("Show");
    await page.waitForURL(/weeks=4/);
    await click(menu(page, "Access"));
    await page.getByLabel("From (UTC)").fill("2026-01-01");
    await press("Show");
    await page.waitForURL(/since=2026-01-01/);
    await click(menu(page, "Interface"));
    await press("Send");
    await comes("Answer: 200");
    await click(menu(page, "Sandbox"));
    await click(page.locator(".infants a").first());
    await press("Send");
    await comes("Answer: 200");
    await click(page.getByRole("button", { name: /^Accept/ }).first());
    await comes("Sent as feedback");
    await click(page.getByRole("button", { name: "Ask", exact: true }));
    await comes(/Outcome: /);
    await click(menu(page, "Sandbox"));
    await click(link(page, /build/i));
    await page.getByLabel("Age", { exact: true }).fill("5");
    await press("See the request");
    await page.locator("textarea").waitFor();
  },
};
