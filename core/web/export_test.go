package web

// Parsers of what strangers send, for the fuzzers.
var (
	ParseRef       = parseRef
	ParseSignature = parseSignature
)
