package compose

// The limits of one stack. compose-go has none of its own that would help.
const (
	// maxFileSize bounds a Compose, environment or label file.
	maxFileSize = 1 << 20
	// maxSources bounds the Compose files of a stack, extended and included ones too.
	maxSources = 20
	// maxIncluded bounds how often they are included: the same file may be, many times.
	maxIncluded = 100
	// maxDepth bounds the nesting of a document and the length of an extends chain.
	maxDepth = 64
	// maxNodes bounds a document as written, maxExpanded with its aliases expanded.
	maxNodes    = 20_000
	maxAliases  = 1_000
	maxExpanded = 100_000
	// maxServices and maxReplicas bound what one stack may run.
	maxServices = 200
	maxReplicas = 100
	// maxVariable bounds the value of one variable.
	maxVariable = 64 << 10
	// maxEntries bounds the variables and the labels of a service.
	maxEntries = 1_000
	// maxInterpolated bounds what all variables of a stack may expand to.
	maxInterpolated = 8 << 20
	// maxNesting bounds "${A:-${B:-...}}".
	maxNesting = 20
	// maxMounted and maxMountedFiles bound the files of a release; maxBlob each of them.
	maxMounted      = 100 << 20
	maxMountedFiles = 10_000
	maxBlob         = 10 << 20
	// maxName bounds the name of a service.
	maxName = 63
)
