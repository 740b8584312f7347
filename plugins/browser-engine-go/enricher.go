// Adds the engine of the visitor's browser. A browser that is not known has none.
package main

import (
	"strings"

	sluice "sluice/enricher"
)

// Visit is the columns it reads; the host passes no others.
type Visit struct {
	Browser *string `row:"context.technical.browser"`
}

// Added is the columns it adds.
type Added struct {
	Engine *string `column:"engine"`
}

var blink, gecko, webkit, trident = "Blink", "Gecko", "WebKit", "Trident"

func browserEngine(v Visit, _ *sluice.None) Added {
	if v.Browser == nil {
		return Added{}
	}
	switch strings.ToLower(*v.Browser) {
	case "chrome", "chromium", "google chrome", "edge", "microsoft edge", "opera", "brave":
		return Added{&blink}
	case "firefox", "mozilla firefox", "tor browser":
		return Added{&gecko}
	case "safari", "mobile safari":
		return Added{&webkit}
	case "internet explorer":
		return Added{&trident}
	}
	return Added{}
}

func init() { sluice.Enricher("browser-engine", "1.0.0", browserEngine) }

func main() {}
