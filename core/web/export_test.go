package web

// For the tests of what strangers send.
var (
	ParseRef       = parseRef
	ParseSignature = parseSignature
	BoundBodies    = boundBodies
)
