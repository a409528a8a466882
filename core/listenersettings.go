package core

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os/user"
	"reflect"
	"regexp"
	"strconv"

	"github.com/varanhq/varan/internal/settings"
)

// ListenerSettings are those of one [[listeners]].
type ListenerSettings struct {
	Name     string   `key:"name" reload:"static" doc:"name in the history and in the log"`
	Kind     string   `key:"kind" default:"tcp" enum:"tcp,tls,unix" reload:"static" doc:"what it listens on"`
	Address  string   `key:"address" reload:"static" doc:"address of tcp and tls, like 0.0.0.0:9120 or [::]:443"`
	CertFile string   `key:"cert_file" reload:"static" doc:"certificate of tls, with its chain, in PEM; read again at a reload"`
	KeyFile  string   `key:"key_file" reload:"static" doc:"its private key"`
	Path     string   `key:"path" reload:"static" doc:"socket of unix"`
	Mode     string   `key:"mode" default:"0660" reload:"static" doc:"its mode"`
	Group    string   `key:"group" reload:"static" doc:"its group"`
	Allow    []string `key:"allow" enum:"agents,api,webhooks" reload:"static" doc:"what is served here; everything if empty"`

	ACME ACMESettings `key:"acme"`
}

// ACMESettings are about a certificate that core gets by itself.
type ACMESettings struct {
	Domains []string `key:"domains" reload:"static" doc:"names to get certificates for, in the place of cert_file and key_file"`
	Email   string   `key:"email" reload:"static" doc:"address for the authority to write to"`
	CA      string   `key:"ca" reload:"static" doc:"URL of the authority's directory; Let's Encrypt's if empty"`
	CARoot  string   `key:"ca_root" reload:"static" doc:"certificates in PEM to trust when talking to the authority, in the place of the system's"`
	Agree   bool     `key:"agree" reload:"static" doc:"true agrees to the authority's terms of service; nothing is asked of it without"`
}

// check looks at a table that may be there. domains are those of the listeners before.
func (s *ACMESettings) check(key string, domains map[string]bool) []settings.Fault {
	if !s.set() {
		return nil
	}
	if part, message, hint := s.fault(); message != "" {
		return []settings.Fault{{Key: key + part, Message: message, Hint: hint}}
	}
	for _, domain := range s.Domains {
		if domains[domain] {
			return []settings.Fault{{
				Key: key + ".domains", Message: fmt.Sprintf("%s is there twice", domain), Hint: "a name gets one certificate, at one listener",
			}}
		}
		domains[domain] = true
	}
	return nil
}

// set reports whether the table is there.
func (s *ACMESettings) set() bool { return !reflect.ValueOf(*s).IsZero() }

// fault says what is wrong, and with which key of the table.
func (s *ACMESettings) fault() (key, message, hint string) {
	if len(s.Domains) == 0 {
		return "", "it needs domains", `write domains = ["core.example.com"]`
	}
	for _, domain := range s.Domains {
		if _, err := netip.ParseAddr(domain); err != nil && !domainName.MatchString(domain) {
			return ".domains", fmt.Sprintf("%q is no name like core.example.com", domain),
				"only the owner of a whole domain can prove wildcards, and a listener cannot; list the names, without port or https://"
		}
	}
	if s.CA != "" {
		if u, err := url.Parse(s.CA); err != nil || u.Scheme != "https" || u.Host == "" {
			return ".ca", fmt.Sprintf("%q is no URL that begins with https://", s.CA), "it is the address of the authority's directory"
		}
	}
	if !s.Agree {
		return ".domains", "the terms of service are not agreed to", "read the authority's terms, and write agree = true beside the domains"
	}
	return "", "", ""
}

var domainName = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// fileMode is Mode as a number.
func (s *ListenerSettings) fileMode() (fs.FileMode, error) {
	n, err := strconv.ParseUint(s.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is no mode like 0660", s.Mode)
	}
	return fs.FileMode(n), nil
}

// groupID is the number of a group.
func groupID(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(group.Gid)
}

func (s *Settings) checkListeners() []settings.Fault {
	var found []settings.Fault
	if len(s.Listeners) > 0 && s.Listen != "" {
		found = append(found, settings.Fault{
			Key: "listen", Message: "there are [[listeners]] as well", Hint: "write it as one of the [[listeners]], or leave them out",
		})
	}
	names, domains := map[string]bool{}, map[string]bool{}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if message := l.fault(); message != "" {
			found = append(found, settings.Fault{Key: fmt.Sprintf("listeners[%d]", i), Message: message})
		}
		if names[l.Name] {
			found = append(found, settings.Fault{Key: fmt.Sprintf("listeners[%d].name", i), Message: fmt.Sprintf("the name %q is there twice", l.Name)})
		}
		names[l.Name] = true
		found = append(found, l.ACME.check(fmt.Sprintf("listeners[%d].acme", i), domains)...)
	}
	return found
}

// fault says what is wrong with a listener, or nothing.
func (s *ListenerSettings) fault() string {
	files := s.CertFile != "" || s.KeyFile != ""
	if s.Name == "" {
		return "it needs a name"
	}
	if s.Kind == kindUnix {
		if s.Path == "" || s.Address != "" || files || s.ACME.set() {
			return "a listener of kind unix needs a path, and has neither an address nor a certificate"
		}
		if _, err := s.fileMode(); err != nil {
			return err.Error()
		}
		return ""
	}
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		return fmt.Sprintf("its address %q is not like 0.0.0.0:9120 or [::]:443", s.Address)
	}
	switch {
	case s.Path != "" || s.Group != "":
		return "path and group belong to kind unix"
	case s.Kind == kindTLS && files && s.ACME.set():
		return "it has a certificate in files and acme as well: keep one"
	case s.Kind == kindTLS && !s.ACME.set() && (s.CertFile == "" || s.KeyFile == ""):
		return "a listener of kind tls needs a cert_file and a key_file, or acme"
	case s.Kind == kindTCP && (files || s.ACME.set()):
		return "a certificate belongs to kind tls"
	}
	return ""
}
