// A user in Debian's Chromium: opens the chart, reads the cards, accepts the first suggestion of the first card,
// dismisses the last card with a reason. stdin: {chromium, page, fields, spoil?, screenshot?} → stdout: what was seen.
import { chromium } from "playwright-core";

const asked = JSON.parse(await new Response(process.stdin).text());
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const seen = { cards: [], trouble: [], elsewhere: [], said: [] };
const browser = await chromium.launch({ executablePath: asked.chromium, args: QUIET });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 1400 } });
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => message.type() === "error" && seen.trouble.push(message.text()));
  page.on("pageerror", (error) => seen.trouble.push(error.message));
  page.on("request", (request) => {
    if (new URL(request.url()).hostname !== "127.0.0.1" && !request.url().startsWith("data:")) seen.elsewhere.push(request.url());
  });
  if (asked.spoil) {
    // The same chart with this resource put in the place of the one of its type and number.
    await page.route(`**/${asked.spoil.type}/_search`, async (route) => {
      const answer = await route.fetch();
      const bundle = await answer.json();
      const entry = bundle.entry.find(({ resource }) => resource.id === asked.spoil.id);
      Object.assign(entry.resource, asked.spoil.with);
      await route.fulfill({ response: answer, json: bundle });
    });
  }
  await page.goto(asked.page);
  for (const [name, value] of Object.entries(asked.fields)) await page.fill(`#${name}`, value);
  await page.click("form button");
  await page.waitForFunction(() => /cards|Failed/.test(document.getElementById("state").textContent));
  seen.state = await page.textContent("#state");
  for (const card of await page.locator(".card").all()) {
    const detail = card.locator(".detail");
    seen.cards.push({
      summary: await card.locator("h2").innerText(),
      visible: await card.locator("h2").isVisible(),
      detail: await detail.innerText(),
      elements: await detail.evaluate((node) => [...new Set([...node.querySelectorAll("*")].map(({ localName }) => localName))].sort()),
      suggestions: await card.locator(".suggestions button").allInnerTexts(),
      reasons: await card.locator("option:not([value=''])").allInnerTexts(),
      links: await card.locator(".links a").evaluateAll((nodes) => nodes.map(({ href }) => href)),
    });
  }
  if (asked.screenshot) await page.screenshot({ path: asked.screenshot, fullPage: true });
  if (asked.act) {
    const first = page.locator(".card").first();
    await first.locator(".suggestions button").first().click();
    await first.locator(".said", { hasText: "accepted:" }).waitFor();
    const last = page.locator(".card").last();
    await last.locator("select").selectOption({ index: 1 });
    await last.locator(".dismissal input").fill(asked.act.comment);
    await last.locator(".dismissal button").click();
    await last.locator(".said", { hasText: "overridden:" }).waitFor();
    seen.said = await page.locator(".said").allInnerTexts();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
