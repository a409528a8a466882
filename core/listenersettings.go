package core

import (
	"fmt"
	"io/fs"
	"net"
	"os/user"
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
}

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
	names := map[string]bool{}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		if message := l.fault(); message != "" {
			found = append(found, settings.Fault{Key: fmt.Sprintf("listeners[%d]", i), Message: message})
		}
		if names[l.Name] {
			found = append(found, settings.Fault{Key: fmt.Sprintf("listeners[%d].name", i), Message: fmt.Sprintf("the name %q is there twice", l.Name)})
		}
		names[l.Name] = true
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
		if s.Path == "" || s.Address != "" || files {
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
	case s.Kind == kindTLS && (s.CertFile == "" || s.KeyFile == ""):
		return "a listener of kind tls needs a cert_file and a key_file"
	case s.Kind == kindTCP && files:
		return "a certificate belongs to kind tls"
	}
	return ""
}
