package git

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The schemes a Location can have.
const (
	schemeHTTPS = "https"
	schemeHTTP  = "http"
	schemeSSH   = "ssh"
	schemeFile  = "file"
)

// maxURLBytes bounds what is worth parsing at all.
const maxURLBytes = 2048

// URLError says why a repository URL is not accepted. It never repeats the URL, which
// may hold a password.
type URLError struct {
	// Rule is a stable kebab-case id, such as "url-credentials".
	Rule string
	// Reason completes the sentence "repository url: ...".
	Reason string
	// Hint says what to write instead; may be empty.
	Hint string
}

// Error is the reason.
func (e *URLError) Error() string { return "repository url: " + e.Reason }

// Location is where a repository is. It never holds credentials.
type Location struct {
	scheme string
	user   string // ssh only
	host   string // lower case, without brackets
	port   int    // 0 is the scheme's own
	path   string // as the server wants it, decoded
}

// ParseURL reads https, http and ssh URLs and the short form of ssh (user@host:path).
// Paths and file URLs are accepted only below localRoots, which come from the
// administrator's configuration. The error is a *URLError.
func ParseURL(raw string, localRoots []string) (Location, error) {
	if err := checkURLText(raw); err != nil {
		return Location{}, err
	}
	if strings.HasPrefix(raw, "/") {
		return parseLocal(raw, localRoots)
	}
	if helper, _, ok := strings.Cut(raw, "::"); ok && isWord(helper) {
		return Location{}, &URLError{
			Rule: "url-scheme", Reason: "remote helpers (helper::address) run commands and are not accepted",
			Hint: "use https:// or ssh://",
		}
	}
	if strings.Contains(raw, "://") {
		return parseAbsolute(raw, localRoots)
	}
	if loc, ok, err := parseShortSSH(raw); ok || err != nil {
		return loc, err
	}
	return Location{}, &URLError{
		Rule: "url-scheme", Reason: "not an absolute URL",
		Hint: "write https://host/path, ssh://user@host/path or user@host:path",
	}
}

// String is the canonical identity: spellings of the same repository give the same
// string. It says who the repository is, URL says how it is reached.
func (l Location) String() string {
	if l.scheme == schemeFile {
		return l.URL()
	}
	same := l
	same.path = "/" + strings.TrimPrefix(l.path, "/")
	for strings.HasSuffix(same.path, ".git") && !strings.HasSuffix(same.path, "/.git") {
		same.path = strings.TrimSuffix(same.path, ".git")
	}
	return same.URL()
}

// URL is the address to connect to, without credentials.
func (l Location) URL() string {
	u := url.URL{Scheme: l.scheme, Host: l.hostPort(), Path: "/" + strings.TrimPrefix(l.path, "/")}
	if l.scheme == schemeSSH {
		if l.user != "" {
			u.User = url.User(l.user)
		}
		if !strings.HasPrefix(l.path, "/") {
			// A path relative to the login folder has no URL; the short form has.
			return strings.TrimPrefix(l.user+"@", "@") + bracketed(l.host) + ":" + l.path
		}
	}
	return u.String()
}

// Local reports whether the repository is a folder on this machine.
func (l Location) Local() bool { return l.scheme == schemeFile }

func (l Location) hostPort() string {
	if l.port == 0 {
		return bracketed(l.host)
	}
	return bracketed(l.host) + ":" + strconv.Itoa(l.port)
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func checkURLText(raw string) error {
	switch {
	case raw == "":
		return &URLError{Rule: "url-empty", Reason: "it is empty"}
	case len(raw) > maxURLBytes:
		return &URLError{Rule: "url-characters", Reason: fmt.Sprintf("it is longer than %d bytes", maxURLBytes)}
	case !utf8.ValidString(raw) || strings.ContainsFunc(raw, unicode.IsControl):
		return &URLError{Rule: "url-characters", Reason: "it holds control characters or invalid UTF-8"}
	case strings.HasPrefix(raw, "-"):
		return &URLError{Rule: "url-characters", Reason: "it starts with a dash, as an option would"}
	}
	return nil
}

func parseAbsolute(raw string, localRoots []string) (Location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own message repeats the URL, and with it what should stay secret.
		return Location{}, &URLError{Rule: "url-syntax", Reason: "it cannot be parsed"}
	}
	scheme := strings.ToLower(u.Scheme)
	switch scheme {
	case schemeHTTPS, schemeHTTP, schemeSSH:
	case schemeFile:
		if u.User != nil || (u.Host != "" && u.Host != "localhost") || u.RawQuery != "" || u.Fragment != "" {
			return Location{}, &URLError{Rule: "url-syntax", Reason: "a file URL holds a path and nothing else"}
		}
		return parseLocal(u.Path, localRoots)
	case "git":
		return Location{}, &URLError{
			Rule: "url-scheme", Reason: "git:// has neither encryption nor authentication",
			Hint: "use https:// or ssh://",
		}
	default:
		return Location{}, &URLError{
			Rule: "url-scheme", Reason: fmt.Sprintf("scheme %q is not accepted", clip(u.Scheme, 20)),
			Hint: "use https:// or ssh://",
		}
	}
	loc := Location{scheme: scheme}
	if loc.user, err = urlUser(u, scheme); err != nil {
		return Location{}, err
	}
	if loc.host, err = cleanHost(u.Hostname()); err != nil {
		return Location{}, err
	}
	if loc.port, err = cleanPort(u, scheme); err != nil {
		return Location{}, err
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return Location{}, &URLError{Rule: "url-syntax", Reason: "queries and fragments are not accepted"}
	}
	loc.path, err = cleanPath(u.Path)
	return loc, err
}

func urlUser(u *url.URL, scheme string) (string, error) {
	if u.User == nil {
		return "", nil
	}
	_, hasPassword := u.User.Password()
	if hasPassword || scheme != schemeSSH {
		return "", &URLError{
			Rule: "url-credentials", Reason: "it holds credentials, which would end up in logs and process lists",
			Hint: "remove the part before @ and give user name and token as the source's own settings",
		}
	}
	return cleanUser(u.User.Username())
}

func cleanUser(user string) (string, error) {
	if strings.HasPrefix(user, "-") || strings.Trim(user, wordBytes+".-") != "" {
		return "", &URLError{Rule: "url-syntax", Reason: "the user name holds characters that are not accepted"}
	}
	return user, nil
}

const wordBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

func isWord(s string) bool { return s != "" && strings.Trim(s, wordBytes+"-+.") == "" }

func cleanHost(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		return addr.String(), nil
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || strings.HasPrefix(host, "-") || strings.HasPrefix(host, ".") ||
		strings.Contains(host, "..") || strings.Trim(host, wordBytes+".-") != "" {
		return "", &URLError{Rule: "url-host", Reason: "the host name is missing or holds characters that are not accepted"}
	}
	return host, nil
}

func cleanPort(u *url.URL, scheme string) (int, error) {
	if u.Port() == "" {
		return 0, nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return 0, &URLError{Rule: "url-host", Reason: "the port is not between 1 and 65535"}
	}
	own := map[string]uint64{schemeHTTPS: 443, schemeHTTP: 80, schemeSSH: 22}
	if own[scheme] == port {
		return 0, nil
	}
	return int(port), nil
}

// cleanPath is the absolute path without empty and dot segments.
func cleanPath(p string) (string, error) {
	rel, err := cleanRelative(strings.TrimLeft(p, "/"))
	return "/" + rel, err
}

func cleanRelative(p string) (string, error) {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || r == '\\'
	}) {
		return "", &URLError{Rule: "url-characters", Reason: "the path holds spaces, backslashes or control characters"}
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == ".." {
			return "", &URLError{Rule: "url-path", Reason: "the path climbs with .."}
		}
	}
	clean := path.Clean(p)
	switch {
	case clean == ".":
		return "", &URLError{Rule: "url-path", Reason: "the path is missing"}
	case strings.HasPrefix(clean, "-"), strings.HasPrefix(clean, ":"):
		return "", &URLError{Rule: "url-characters", Reason: "the path starts with a dash, as an option would, or a colon"}
	}
	return clean, nil
}

// parseShortSSH reads user@host:path. ok is false when raw has another form.
func parseShortSSH(raw string) (loc Location, ok bool, err error) {
	authority, p, ok := cutAuthority(raw)
	if !ok {
		return Location{}, false, nil
	}
	if strings.HasPrefix(authority, "@") {
		return Location{}, false, &URLError{Rule: "url-syntax", Reason: "it cannot be parsed"}
	}
	loc.scheme = schemeSSH
	host := authority
	if at := strings.IndexByte(p, '@'); at >= 0 && !strings.Contains(authority, "@") && strings.Contains(p[at:], ":") {
		return Location{}, false, &URLError{
			Rule: "url-credentials", Reason: "it looks as if it held a password",
			Hint: "write user@host:path and give the password as the source's own setting",
		}
	}
	if user, rest, found := strings.Cut(authority, "@"); found {
		if loc.user, err = cleanUser(user); err != nil {
			return Location{}, false, err
		}
		host = rest
	}
	if loc.host, err = cleanHost(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err != nil {
		return Location{}, false, err
	}
	if strings.HasPrefix(p, "/") {
		loc.path, err = cleanPath(p)
	} else {
		loc.path, err = cleanRelative(p)
	}
	return loc, err == nil, err
}

// cutAuthority splits at the colon that ends the host. A slash before it means a path.
func cutAuthority(raw string) (authority, p string, ok bool) {
	from := 0
	if end := strings.Index(raw, "]:"); end >= 0 && strings.Contains(raw[:end], "[") {
		from = end
	}
	i := strings.IndexByte(raw[from:], ':')
	if i <= 0 {
		return "", "", false
	}
	authority, p = raw[:from+i], raw[from+i+1:]
	return authority, p, !strings.Contains(authority, "/")
}

func parseLocal(p string, localRoots []string) (Location, error) {
	if err := checkURLText(p); err != nil {
		return Location{}, err
	}
	if !filepath.IsAbs(p) {
		return Location{}, &URLError{Rule: "url-path", Reason: "a local repository needs an absolute path"}
	}
	clean := filepath.Clean(p)
	for _, root := range localRoots {
		if within(root, clean) {
			return Location{scheme: schemeFile, path: clean}, nil
		}
	}
	return Location{}, &URLError{
		Rule: "url-local", Reason: "local repositories are accepted only below folders that the administrator lists",
		Hint: "use https:// or ssh://, or list the folder in the core's configuration",
	}
}

// within reports whether p is root or below it. Both are clean and absolute.
func within(root, p string) bool {
	rel, err := filepath.Rel(root, p)
	return err == nil && filepath.IsLocal(rel)
}

// resolveLocal follows the links of a local repository's path and makes sure that it
// still ends below one of the roots.
func resolveLocal(p string, localRoots []string) (string, error) {
	target, err := filepath.EvalSymlinks(p)
	if err != nil {
		return "", fmt.Errorf("%w: resolve the local path: %w", ErrNotFound, err)
	}
	for _, root := range localRoots {
		realRoot, rootErr := filepath.EvalSymlinks(root)
		if rootErr == nil && within(realRoot, target) {
			return target, nil
		}
	}
	return "", errors.Join(ErrNotFound, &URLError{
		Rule: "url-local", Reason: "the local path leads out of the folders that the administrator lists",
	})
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
