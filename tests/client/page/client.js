// A CDS client as CLIENTS.md says that clients are, by the example of the CDS Hooks Sandbox: discovery, prefetch by
// the templates, patient-view, cards, feedback; a token of its own for each call. Nothing here knows our service.
import { marked } from "/node_modules/marked/lib/marked.esm.js";

const URGENCY = ["critical", "warning", "info"];
const field = (name) => document.getElementById(name).value.trim();
const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const encoded = (value) => base64url(new TextEncoder().encode(JSON.stringify(value)));

function element(parent, name, text = "", className = "") {
  const made = parent.appendChild(document.createElement(name));
  made.textContent = text;
  made.className = className;
  return made;
}

async function signed(audience) {
  const { kid, ...key } = JSON.parse(field("key"));
  const algorithm = { name: "ECDSA", namedCurve: "P-384" };
  const issued = Math.floor(Date.now() / 1000);
  const claims = { iss: field("issuer"), aud: audience, iat: issued, exp: issued + 300, jti: crypto.randomUUID() };
  const content = `${encoded({ alg: "ES384", kid, typ: "JWT" })}.${encoded(claims)}`;
  const signing = await crypto.subtle.importKey("jwk", key, algorithm, false, ["sign"]);
  const hashed = { name: "ECDSA", hash: "SHA-384" };
  return `${content}.${base64url(new Uint8Array(await crypto.subtle.sign(hashed, signing, new TextEncoder().encode(content))))}`;
}

async function ask(url, body) {
  const headers = { Accept: "application/json", Authorization: `Bearer ${await signed(url)}` };
  if (body) headers["Content-Type"] = "application/json";
  return fetch(url, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
}

const fhirHeaders = (more) => ({ Accept: "application/json+fhir", Authorization: `Bearer ${field("access")}`, ...more });

// The value of a prefetch key; undefined, so that the key is left out, when it cannot be had.
async function prefetched(template) {
  const filled = template.replaceAll("{{context.patientId}}", field("patient")).replaceAll("{{context.userId}}", field("user"));
  if (filled.includes("{{")) return undefined;
  const [path, query] = filled.split("?");
  const search = { method: "POST", headers: fhirHeaders({ "Content-Type": "application/x-www-form-urlencoded" }), body: query };
  try {
    let answer = query && (await fetch(`${field("fhir")}/${path}/_search`, search));
    if (!answer?.ok) answer = await fetch(`${field("fhir")}/${filled}`, { headers: fhirHeaders() });
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

async function openChart() {
  const root = `${field("service").replace(/\/$/, "")}/cds-services`;
  const { services } = await (await ask(root)).json();
  const cards = [];
  for (const service of services.filter(({ hook }) => hook === "patient-view")) {
    const prefetch = {};
    await Promise.all(Object.entries(service.prefetch ?? {}).map(async ([key, template]) => {
      const value = await prefetched(template);
      if (value !== undefined) prefetch[key] = value;
    }));
    const url = `${root}/${service.id}`;
    const answer = await ask(url, {
      hook: "patient-view", hookInstance: crypto.randomUUID(), fhirServer: field("fhir"), prefetch,
      context: { patientId: field("patient"), userId: field("user") },
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    cards.push(...(await answer.json()).cards.map((card) => ({ ...card, url })));
  }
  return cards.sort((one, other) => URGENCY.indexOf(one.indicator) - URGENCY.indexOf(other.indicator));
}

function draw(card) {
  const drawn = element(document.getElementById("cards"), "section", "", `card ${card.indicator}`);
  element(drawn, "h2", card.summary);
  element(drawn, "div", `Source: ${card.source.label}`, "source");
  // As the Sandbox does, HTML in the Markdown is let through: were there any, it would be seen.
  element(drawn, "div", "", "detail").innerHTML = marked.parse(card.detail ?? "", { gfm: true });
  const suggestions = element(drawn, "div", "", "suggestions");
  const dismissal = element(drawn, "div", "", "dismissal");
  const said = element(drawn, "output", "", "said");
  const feedback = async (entry) => {
    const whole = { card: card.uuid, outcomeTimestamp: new Date().toISOString(), ...entry };
    const answer = await ask(`${card.url}/feedback`, { feedback: [whole] });
    said.textContent += ` ${entry.outcome}: ${answer.status}.`;
  };
  for (const suggestion of card.suggestions ?? []) {
    element(suggestions, "button", suggestion.label).onclick = async ({ target }) => {
      target.disabled = true;
      for (const { type, description, resource } of suggestion.actions ?? []) {
        const created = type === "create" && (await fetch(`${field("fhir")}/${resource.resourceType}`, {
          method: "POST", headers: fhirHeaders({ "Content-Type": "application/fhir+json" }), body: JSON.stringify(resource),
        }));
        said.textContent += ` ${description} ${created ? created.status : "left to the user"}.`;
      }
      if (card.uuid && suggestion.uuid) await feedback({ outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }] });
    };
  }
  const reasons = element(dismissal, "select");
  element(reasons, "option", "Reason …").value = "";
  for (const [place, { display }] of (card.overrideReasons ?? []).entries()) element(reasons, "option", display).value = place;
  const comment = element(dismissal, "input");
  comment.placeholder = "Comment";
  element(dismissal, "button", "Dismiss").onclick = async () => {
    const { code, system } = card.overrideReasons?.[reasons.value] ?? {};
    const overrideReason = { ...(code && { reason: { code, system } }), ...(comment.value && { userComment: comment.value }) };
    if (card.uuid) await feedback({ outcome: "overridden", ...(Object.keys(overrideReason).length && { overrideReason }) });
  };
  const links = element(drawn, "p", "", "links");
  for (const { label, url } of card.links ?? []) Object.assign(element(links, "a", label), { href: url, target: "_blank" });
}

document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const state = document.getElementById("state");
  document.getElementById("cards").replaceChildren();
  state.textContent = "Asking …";
  try {
    const cards = await openChart();
    cards.forEach(draw);
    state.textContent = `${cards.length} cards`;
  } catch (problem) {
    state.textContent = `Failed: ${problem.message}`;
  }
};
