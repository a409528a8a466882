package api

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Key is an API key. Its secret is not kept.
type Key struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// KeySpec creates an API key.
type KeySpec struct {
	Name string `json:"name" maxLength:"63"`
}

// KeyCreated answers the creation of an API key. The secret is not shown again.
type KeyCreated struct {
	Key    Key       `json:"key"`
	Secret WriteOnly `json:"secret"`
}

// OnboardingKey lets agents join. Its secret is not kept.
type OnboardingKey struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Last4 are the last characters of the token, to tell tokens apart.
	Last4      string     `json:"last4"`
	ServerGlob string     `json:"server_glob"`
	Rekey      string     `json:"rekey,omitempty"`
	Tags       []string   `json:"tags,omitempty"`
	Tier       fleet.Tier `json:"tier"`
	// CIDRs are the networks that agents may come from; none means any.
	CIDRs []string `json:"cidrs,omitempty"`
	// CopyServer is the server whose configuration those that join start with.
	CopyServer string `json:"copy_server,omitempty"`
	// Approval says that who joins waits for approval.
	Approval bool `json:"approval,omitempty"`
	Uses     int  `json:"uses"`
	MaxUses  int  `json:"max_uses"`
	// Failures counts attempts that the key's limits refused. At 50 the key is revoked.
	Failures int       `json:"failures,omitempty"`
	Created  time.Time `json:"created"`
	// CreatedBy is the id of the API key that made it. It is revoked with that.
	CreatedBy string    `json:"created_by,omitempty"`
	Expires   time.Time `json:"expires"`
	Revoked   bool      `json:"revoked,omitempty"`
	// Template is the resource file that CopyServer stands for.
	Template string `json:"-"`
}

// OnboardingSpec creates an onboarding key.
type OnboardingSpec struct {
	Name string `json:"name,omitempty" maxLength:"63"`
	// ServerGlob limits the names an agent may take, like "edge-*"; empty means "*".
	ServerGlob string   `json:"server_glob,omitempty" maxLength:"63"`
	Tags       []string `json:"tags,omitempty" maxItems:"32"`
	// CIDRs are the networks that agents may come from, like "10.0.0.0/8"; none means any.
	CIDRs []string `json:"cidrs,omitempty" maxItems:"32"`
	// CopyServer names a declared server whose configuration those that join start with. It
	// is read when the key is made.
	CopyServer string `json:"copy_server,omitempty" maxLength:"63"`
	// Approval makes the server wait for approval. With more than one use that is always so.
	Approval bool `json:"approval,omitempty"`
	// Tier is the highest the server may have. Empty means trusted for a single use and
	// untrusted for more.
	Tier fleet.Tier `json:"tier,omitempty" enum:"trusted,untrusted"`
	// MaxUses defaults to 1. Servers that join with a key for more wait for approval.
	MaxUses int `json:"max_uses,omitempty" minimum:"0" maximum:"100"`
	// TTLSeconds defaults to one hour and is at most seven days.
	TTLSeconds int `json:"ttl_seconds,omitempty" minimum:"0" maximum:"604800"`
	// Rekey names the one existing server whose agent key the token replaces. Such a token
	// is good for a single use and at most 15 minutes.
	Rekey string `json:"rekey,omitempty" maxLength:"63"`
}

// OnboardingCreated answers the creation of an onboarding key. The token is not shown
// again.
type OnboardingCreated struct {
	Key   OnboardingKey `json:"key"`
	Token WriteOnly     `json:"token"`
}

// Variable is a value for [[NAME]] in resource files and ${NAME} in Compose files.
type Variable struct {
	Name string `json:"name"`
	// Value is empty for a secret: it can be replaced, never read.
	Value       string `json:"value,omitempty"`
	Secret      bool   `json:"secret"`
	Description string `json:"description,omitempty"`

	fleet.Scope

	Updated time.Time `json:"updated"`
}

// VariableSpec sets a variable.
type VariableSpec struct {
	Value       WriteOnly `json:"value" maxLength:"65536"`
	Secret      bool      `json:"secret,omitempty"`
	Description string    `json:"description,omitempty" maxLength:"1024"`

	fleet.Scope
}

// VariableUpsert sets a variable as Komodo's clients do. What is left out stays as it is.
type VariableUpsert struct {
	Name        string     `json:"name"`
	Value       *WriteOnly `json:"value,omitempty" maxLength:"65536"`
	IsSecret    *bool      `json:"is_secret,omitempty"`
	Description *string    `json:"description,omitempty" maxLength:"1024"`
	Tags        []string   `json:"tags,omitempty" maxItems:"100"`
}

// VariableUpserted answers with the variable, a secret without its value.
type VariableUpserted struct {
	Name        string `json:"name"`
	Value       string `json:"value,omitempty"`
	IsSecret    bool   `json:"is_secret"`
	Description string `json:"description"`
}
