// A visit says who, where and by what: the twin of ../../guest/src/texts.rs.
package main

import "sluice"

// Visit is the columns that are read.
type Visit struct {
	User    *string `row:"user_id"`
	Page    *string `row:"page"`
	Browser *string `row:"context.technical.browser"`
}

var incomplete = sluice.Error("incomplete", "a visit says who, where and by what")

func isMissing(text *string) bool { return text == nil || *text == "" }

func texts(v Visit, _ *sluice.None, found *sluice.Found) {
	if isMissing(v.User) || isMissing(v.Page) || isMissing(v.Browser) {
		found.Push(incomplete)
	}
}

func init() { sluice.Rule("texts", "0.1.0", texts, incomplete) }

func main() {}
