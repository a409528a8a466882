package fleet

import (
	"slices"
	"time"
)

// UpdatePolicy says what is done about newer images of a stack's services.
type UpdatePolicy struct {
	// Poll looks for newer images and tells of them; Auto also deploys them.
	Poll bool `json:"poll,omitempty"`
	Auto bool `json:"auto,omitempty"`
	// AllServices has an update of one service renew the images of all.
	AllServices bool `json:"all_services,omitempty"`
	// Skip names services that are left alone.
	Skip []string `json:"skip,omitempty"`
	// MinAge is how old an image must be before it is deployed.
	MinAge time.Duration `json:"min_age,omitempty"`
	// Tags say which other tags a service may be told of.
	Tags []TagPolicy `json:"tags,omitempty"`
}

// TagPolicy is which tags of its image a service could move to.
type TagPolicy struct {
	// Service is empty where there is only one.
	Service string `json:"service,omitempty"`
	// Policy is a range of versions, or a regular expression between slashes.
	Policy string `json:"policy"`
}

// Watched reports whether newer images are looked for.
func (p UpdatePolicy) Watched() bool { return p.Poll || p.Auto }

// Skips reports whether a service is left alone.
func (p UpdatePolicy) Skips(service string) bool { return slices.Contains(p.Skip, service) }

// Tag is the tag policy of a service; empty when it has none.
func (p UpdatePolicy) Tag(service string) string {
	for _, t := range p.Tags {
		if t.Service == service || t.Service == "" {
			return t.Policy
		}
	}
	return ""
}
