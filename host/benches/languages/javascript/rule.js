// A visit says who, where and by what: the twin of ../../guest/src/texts.rs.

import { defineRule, text } from "../../../../plugins/sdk-js/sluice.js";

export const rule = defineRule({
  name: "texts",
  version: "0.1.0",
  reads: { user: text("user_id"), page: text("page"), browser: text("context.technical.browser") },
  codes: { incomplete: "a visit says who, where and by what" },
  check(row, settings, found) {
    if (!row.user || !row.page || !row.browser) found("incomplete");
  },
});
