package fleet

import (
	"path"
	"strings"
)

// ImageAllowed reports whether a host that lets images come from some registries only may run
// an image. A pattern is a registry and as much of the path below it as counts, in words that
// may have wildcards: "ghcr.io", "docker.io/library/*", "registry.example.com:5000/team-*".
// Without patterns every image is allowed; with some, one that is named by its id is not: it
// can be from anywhere.
func ImageAllowed(patterns []string, image string) bool {
	if len(patterns) == 0 {
		return true
	}
	if image == "" || strings.HasPrefix(image, "sha256:") {
		return false
	}
	words := strings.Split(repositoryOf(image), "/")
	for _, pattern := range patterns {
		if wordsMatch(strings.Split(pattern, "/"), words) {
			return true
		}
	}
	return false
}

// ValidRegistryPattern reports whether a pattern of ImageAllowed can match anything. It begins
// with a registry: a name of Docker Hub without one would be taken for a host.
func ValidRegistryPattern(pattern string) bool {
	words := strings.Split(pattern, "/")
	for _, word := range words {
		if _, err := path.Match(word, ""); err != nil || word == "" || strings.ContainsAny(word, " @") {
			return false
		}
	}
	return words[0] == "localhost" || strings.ContainsAny(words[0], ".:*")
}

// repositoryOf is an image's registry and path, without tag and digest, as Docker reads them:
// what has no registry is of Docker Hub.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	host, rest, ok := strings.Cut(image, "/")
	switch {
	case !ok:
		return "docker.io/library/" + image
	case host == "index.docker.io":
		host = "docker.io"
	case host != "localhost" && !strings.ContainsAny(host, ".:") && host == strings.ToLower(host):
		return "docker.io/" + image
	}
	if host == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	return host + "/" + rest
}

// wordsMatch compares word by word: a wildcard never reaches over a slash.
func wordsMatch(pattern, words []string) bool {
	if len(pattern) > len(words) {
		return false
	}
	for i, want := range pattern {
		if ok, err := path.Match(want, words[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
