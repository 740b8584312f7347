// A private visit carries no login, unless allowed.

import { bool, defineRule, text } from "../sdk-js/sluice.js";

interface Settings {
  allow: string[];
}

export const rule = defineRule({
  name: "consent",
  version: "1.2.0",
  // the columns this rule reads; the host passes no others
  reads: { private: bool("keep_private"), login: text("context.user.login") },
  codes: { "login-exposed": "a private visit carries a login" },
  settings: ({ allow = [] }): Settings => ({ allow: allow as string[] }),
  check(row, settings, found) {
    if (row.private && row.login !== null && !settings.allow.includes(row.login)) found("login-exposed");
  },
});
