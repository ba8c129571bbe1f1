// An OpenID provider on this machine: node provider.mjs PORT REDIRECT_URI SECRET. Whoever gives a name gets in, and the
// name says which roles they have: "ann+analyst+viewer". Its own development forms ask for name and consent.
import { Provider } from "oidc-provider";

const [port, redirect, secret] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "cds desk", client_secret: secret, redirect_uris: [redirect], grant_types: ["authorization_code"] }],
  claims: { openid: ["sub"], profile: ["preferred_username", "roles"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  cookies: { keys: ["only for tests"] },
  async findAccount(_, id) {
    const [name, ...roles] = id.split("+");
    return { accountId: id, claims: async () => ({ sub: id, preferred_username: name, roles }) };
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
