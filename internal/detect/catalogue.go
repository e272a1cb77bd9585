package detect

import (
	"fmt"

	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/signal"
)

// Catalogue is what signals mean.
type Catalogue = signal.Catalogue

// CatalogueOf returns the catalogue of a policy. It is work where the policy has rules of its own: keep the result.
func CatalogueOf(p *policy.Policy) *Catalogue {
	c, err := p.Signals.Catalogue()
	if err != nil { // what was loaded has been checked, and the built-in one is part of the program
		panic(fmt.Sprintf("a catalogue that was checked does not compile: %v", err))
	}
	return c
}
