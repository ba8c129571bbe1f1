// stdin: [{value, from, to, molar, charge}] → stdout: [number | null], converted by @lhncbc/ucum-lhc.
import ucum from "@lhncbc/ucum-lhc";
const utils = ucum.UcumLhcUtils.getInstance();
const asked = JSON.parse(await new Response(process.stdin).text());
console.log(JSON.stringify(asked.map(({ value, from, to, molar, charge }) => {
  const result = utils.convertUnitTo(from, value, to, { molecularWeight: molar, charge });
  return result.status === "succeeded" ? result.toVal : null;
})));
