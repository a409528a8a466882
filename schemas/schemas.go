// Package schemas holds the JSON Schemas of the files people write, for editors. They
// are generated from the types that decode those files; a test regenerates and
// compares. The package imports nothing.
package schemas

import _ "embed"

//go:embed resources.schema.json
var resources []byte

// Resources is the schema of resource files, draft 7. Callers must not change it.
func Resources() []byte { return resources }
