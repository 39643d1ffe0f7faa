package scenario

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed shipped/*.toml
var shipped embed.FS

// Names returns the names of the shipped scenarios, sorted.
func Names() []string {
	entries, err := shipped.ReadDir("shipped")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	slices.Sort(names)
	return names
}

// Shipped returns a scenario that comes with fastrelay.
func Shipped(name string) (*Scenario, error) {
	b, err := shipped.ReadFile("shipped/" + name + ".toml")
	if err != nil {
		return nil, fmt.Errorf("there is no scenario %q; shipped are %s, and a file's name ends in .toml", name, strings.Join(Names(), ", "))
	}
	return Parse(name+".toml", string(b))
}

// Load returns a shipped scenario by its name, or that of a file if the name ends in .toml.
func Load(name string) (*Scenario, error) {
	if strings.HasSuffix(name, ".toml") {
		return Read(name)
	}
	return Shipped(name)
}
