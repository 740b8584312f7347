// A private visit carries no login, unless allowed.
package main

import "sluice"

// Visit is the columns this rule reads; the host passes no others.
type Visit struct {
	Private *bool   `row:"keep_private"`
	Login   *string `row:"context.user.login"`
}

// Settings is the rule's configuration.
type Settings struct{ Allow sluice.Set } // from a list

var exposed = sluice.Error("login-exposed", "a private visit carries a login")

func consent(v Visit, s *Settings, found *sluice.Found) {
	if v.Private != nil && *v.Private && v.Login != nil && !s.Allow[*v.Login] {
		found.Push(exposed)
	}
}

func init() { sluice.Rule("consent", "1.2.0", consent, exposed) }

func main() {}
