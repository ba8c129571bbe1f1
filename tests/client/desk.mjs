// The desk in Debian's Chromium. stdin: {chromium, base, pages: {name: {path, fill?, press?}}, drawn: {path: html}, tasks, screenshots?}
// → stdout: {tasks, pages}: what five tasks took, and what axe, the width, the keyboard and paper say of each page.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { TASKS } from "./desk_tasks.mjs";

const asked = JSON.parse(await new Response(process.stdin).text());
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const OF_COLOUR = ["color-contrast", "link-in-text-block"]; // all else is the same in the dark
const WIDTHS = [1600, 360];
const told = { tasks: {}, pages: {} };
const browser = await chromium.launch({ executablePath: asked.chromium, args: QUIET });
try {
  for (const [name, task] of Object.entries(asked.tasks)) told.tasks[name] = await performed(name, task);
  const waiting = Object.entries(asked.pages);
  await Promise.all([looked(waiting), looked(waiting)]);
} finally {
  await browser.close();
}
console.log(JSON.stringify(told));

// A task from the home page on, without JavaScript: every press of a link, button or summary is a click.
async function performed(name, given) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const done = { clicks: [] };
  const click = async (target) => {
    done.clicks.push((await target.innerText()).trim() || (await target.getAttribute("value")) || "");
    await target.click();
    await page.waitForLoadState();
  };
  try {
    await page.goto(`${asked.base}/`);
    await TASKS[name](page, click, given);
  } catch (problem) {
    done.problem = String(problem.message);
  }
  done.at = page.url().slice(asked.base.length);
  done.text = await page.locator("main").innerText();
  await context.close();
  return done;
}

// Takes pages from those that wait until none is left.
async function looked(waiting) {
  const context = await browser.newContext();
  await context.addInitScript({ content: AXE });
  for (const [path, html] of Object.entries(asked.drawn ?? {})) {
    await context.route(asked.base + path, (route) => route.fulfill({ contentType: "text/html; charset=utf-8", body: html }));
  }
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  while (waiting.length) {
    const [name, steps] = waiting.shift();
    told.pages[name] = await examined(page, name, steps);
  }
}

async function examined(page, name, { path, fill, press }) {
  const found = { violations: [], wide: [], trouble: [], elsewhere: [], focus: [], paper: {} };
  const hears = {
    console: (message) => message.type() !== "error" || isOwnStatus(message) || found.trouble.push(message.text()),
    pageerror: (error) => found.trouble.push(error.message),
    request: (request) => request.url().startsWith(asked.base) || request.url().startsWith("data:") || found.elsewhere.push(request.url()),
  };
  // A page that is itself refused or not found is an error to the console.
  const isOwnStatus = (message) => message.text().startsWith("Failed to load resource") && message.location().url === page.url();
  for (const [what, hear] of Object.entries(hears)) page.on(what, hear);
  await page.setViewportSize({ width: WIDTHS[0], height: 900 });
  await page.emulateMedia({ colorScheme: "light", media: "screen" });
  const answer = await page.goto(asked.base + path);
  found.status = answer.status();
  for (const [field, text] of Object.entries(fill ?? {})) await page.fill(field, text);
  if (press) {
    await page.getByRole("button", { name: press, exact: true }).click();
    await page.waitForLoadState("load");
  }
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    if (width === Math.min(...WIDTHS)) {
      await page.evaluate(() => document.querySelectorAll("details").forEach((node) => { node.open = true; }));
    }
    found.wide.push(...(await page.evaluate(tooWide)));
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const runOnly = colorScheme === "light" ? RULES : { type: "rule", values: OF_COLOUR };
      const said = await page.evaluate((which) => axe.run({ runOnly: which, resultTypes: ["violations"] }), runOnly);
      for (const { id, nodes } of said.violations) {
        found.violations.push(...nodes.slice(0, 3).map(({ html, any }) => `${width} ${colorScheme} ${id}: ${html.slice(0, 200)} ${any[0]?.message ?? ""}`));
      }
      if (asked.screenshots) {
        await page.screenshot({ path: `${asked.screenshots}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      }
    }
  }
  found.focus = await focused(page);
  await page.emulateMedia({ colorScheme: "dark", media: "print" });
  found.paper = await page.evaluate(onPaper);
  if (asked.screenshots) await page.screenshot({ path: `${asked.screenshots}/${name}-print.png` });
  for (const [what, hear] of Object.entries(hears)) page.off(what, hear);
  return found;
}

// In the page: what sticks out of it, unless a region that scrolls by itself holds it.
function tooWide() {
  if (document.documentElement.scrollWidth <= window.innerWidth) return [];
  const held = (node) => node && (getComputedStyle(node).overflowX !== "visible" || held(node.parentElement));
  const out = [...document.querySelectorAll("main *, header *, footer *")].filter(
    (node) => node.getBoundingClientRect().right > window.innerWidth && !held(node.parentElement));
  return [`${document.documentElement.scrollWidth} px wide at ${window.innerWidth}`,
    ...out.slice(0, 3).map((node) => node.outerHTML.slice(0, 160))];
}

// By keyboard: Tab comes to the skip link first, and what has the focus is seen to have it.
async function focused(page) {
  await page.evaluate(() => { // from the top, also where the address leads to a place further down
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
    window.scrollTo(0, 0);
  });
  await page.keyboard.press("Tab");
  return page.evaluate(() => {
    const seen = (node) => {
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      return outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
    };
    const first = document.activeElement;
    const place = first.getBoundingClientRect();
    const wrong = first.matches("a.skip") && seen(first) && place.left >= 0 && place.top >= 0 ? [] : [`first: ${first.outerHTML.slice(0, 160)}`];
    for (const node of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
      if (node.tabIndex < 0 || node.disabled || !node.checkVisibility()) continue;
      if (node.tabIndex > 0) wrong.push(`out of order: ${node.outerHTML.slice(0, 160)}`);
      node.focus();
      if (document.activeElement !== node) wrong.push(`not reached: ${node.outerHTML.slice(0, 160)}`);
      else if (!seen(node)) wrong.push(`not seen: ${node.outerHTML.slice(0, 160)}`);
    }
    return wrong;
  });
}

// In the page: which of what is no use on paper still shows, whether the text does, and what of it is pale.
function onPaper() {
  const shown = [...document.querySelectorAll("header, .skip, .filters, .twins")].filter((node) => node.checkVisibility());
  const texts = [...document.querySelectorAll("main *, footer *")].filter((node) => node.checkVisibility() && node.innerText?.trim());
  const pale = texts.filter((node) => getComputedStyle(node).color.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) > 420);
  return { shown: shown.map((node) => node.outerHTML.slice(0, 120)), heading: document.querySelector("h1")?.checkVisibility() ?? false,
    pale: pale.slice(0, 3).map((node) => node.outerHTML.slice(0, 160)) };
}
