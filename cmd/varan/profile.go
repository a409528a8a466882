package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/settings"
)

// cliSettings is the file of the command line, config.toml beside the login.
type cliSettings struct {
	Profiles map[string]profile `key:"profiles" reload:"static"`
}

// profile is a core by a name. All that it says can be said without it.
type profile struct {
	URL    string       `key:"url" reload:"static" doc:"address of the core, which may be unix:///path"`
	Key    fleet.Secret `key:"key" optional:"file" reload:"static" doc:"API key"`
	CAFile string       `key:"ca_file" reload:"static" doc:"certificate authorities for https://, instead of the system's"`
	// missing is where a file was named for the key that does not exist.
	missing settings.Origin
}

// configFile is a file of the user's configuration directory for varan.
func configFile(name string) (string, error) {
	login, err := loginPath()
	return filepath.Join(filepath.Dir(login), name), err
}

// profiles reads the file; there need not be one. A profile whose key's file is not there says
// so when it is chosen: the others do not need that key.
func profiles() (map[string]profile, string, error) {
	path, err := configFile("config.toml")
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, path, nil
	}
	var s cliSettings
	values, err := settings.Load(&s, settings.Source{File: path})
	for name, p := range s.Profiles {
		if o := values.Origin("profiles." + name + ".key"); o.Missing {
			p.missing = o
			s.Profiles[name] = p
		}
	}
	return s.Profiles, path, err
}

// chosen is the profile that counts, with its name; an empty name if there is none. explicit
// says that a flag chose it.
func (a *app) chosen() (p profile, name string, explicit bool, err error) {
	name = firstOf(a.profile, os.Getenv("VARAN_PROFILE"))
	if name == "" {
		if name = currentProfile(); name == "" {
			return p, "", false, nil
		}
	}
	all, path, err := profiles()
	if err != nil {
		return p, name, false, err
	}
	p, ok := all[name]
	if !ok {
		return p, name, false, unknownProfile(name, path, all)
	}
	if p.missing.Missing {
		return p, name, false, &exit.Error{
			Code: exit.Config, Err: fmt.Errorf("%s: the key's file %s of profile %q does not exist", p.missing.Pos, p.missing.File, name),
			Hint: "put the API key there, or correct key_file",
		}
	}
	return p, name, a.profile != "", nil
}

func unknownProfile(name, path string, all map[string]profile) error {
	hint := "write [profiles." + name + "] with a url in " + path
	if len(all) > 0 {
		hint = "there are " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	}
	return &exit.Error{Code: exit.Config, Err: fmt.Errorf("there is no profile %q", name), Hint: hint}
}

// currentProfile is the one of varan profile use, or empty.
func currentProfile() string {
	path, err := configFile("profile")
	if err != nil {
		return ""
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// unixScheme begins the address of a core on a socket of this host.
const unixScheme = "unix://"

// newClient talks to a core at an address, which may be a unix socket.
func newClient(address string, key fleet.Secret) *api.Client {
	path, local := strings.CutPrefix(address, unixScheme)
	if !local {
		return &api.Client{BaseURL: baseURL(address), Key: key}
	}
	return &api.Client{BaseURL: "http://core.sock", Key: key, HTTP: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// trust makes a client believe the certificate authorities of a profile alone.
func (p *profile) trust(client *api.Client) error {
	if p.CAFile == "" {
		return nil
	}
	text, err := os.ReadFile(p.CAFile)
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("read ca_file: %w", err)}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("ca_file %s holds no certificate", p.CAFile)}
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return errors.New("the default transport is not the standard one")
	}
	transport = transport.Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	client.HTTP = &http.Client{Transport: transport}
	return nil
}

func (a *app) profileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Cores by name, from config.toml in your configuration directory",
		Long: `Cores by name. They are written in ~/.config/varan/config.toml:

  [profiles.production]
  url = "https://varan.example.com"
  key_file = "/home/me/.config/varan/production.key"

  [profiles.local]
  url = "unix:///run/varan/core.sock"

--profile NAME chooses one for a command, VARAN_PROFILE for a shell, "varan profile use" from
then on. --core and the other flags still win.`,
	}
	cmd.AddCommand(a.profileListCommand(), a.profileUseCommand(), a.profileShowCommand())
	return cmd
}

// profileView is a profile as it is shown.
type profileView struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	HasKey  bool   `json:"has_key"`
	CAFile  string `json:"ca_file,omitempty"`
	Current bool   `json:"current"`
}

func viewOf(name string, p profile, current string) profileView {
	return profileView{Name: name, URL: p.URL, HasKey: !p.Key.IsEmpty(), CAFile: p.CAFile, Current: name == current}
}

func (a *app) profileListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the profiles", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, path, err := profiles()
			if err != nil {
				return err
			}
			current := firstOf(a.profile, os.Getenv("VARAN_PROFILE"), currentProfile())
			views := []profileView{}
			for _, name := range slices.Sorted(maps.Keys(all)) {
				views = append(views, viewOf(name, all[name], current))
			}
			if a.json {
				return a.printJSON(views)
			}
			if len(views) == 0 {
				fmt.Fprintf(a.stderr, "none yet: write them in %s\n", path)
				return nil
			}
			t := table{head: []string{"", "NAME", "CORE"}}
			for _, v := range views {
				mark := ""
				if v.Current {
					mark = "*"
				}
				t.add(mark, v.Name, v.URL)
			}
			t.write(a.stdout, styleFor(a.stdout))
			return nil
		},
	}
}

func (a *app) profileShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "Show a profile, or the one in use", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.profile = args[0]
			}
			p, name, _, err := a.chosen()
			if err != nil {
				return err
			}
			if name == "" {
				return &exit.Error{Code: exit.Failed, Err: errors.New("no profile is in use"), Hint: "varan profile list"}
			}
			v := viewOf(name, p, firstOf(os.Getenv("VARAN_PROFILE"), currentProfile()))
			if a.json {
				return a.printJSON(v)
			}
			key := "none"
			if v.HasKey {
				key = "***"
			}
			fmt.Fprintf(a.stdout, "name: %s\nurl: %s\nkey: %s\nca_file: %s\n", v.Name, orDash(v.URL), key, orDash(v.CAFile))
			return nil
		},
	}
}

func (a *app) profileUseCommand() *cobra.Command {
	var none bool
	cmd := &cobra.Command{
		Use: "use NAME", Short: "Use a profile from now on", Args: cobra.MaximumNArgs(1),
		Example: "  varan profile use production\n  varan profile use --none",
		RunE: func(_ *cobra.Command, args []string) error {
			if none == (len(args) == 1) {
				return exit.Usagef("name a profile, or say --none")
			}
			path, err := configFile("profile")
			if err != nil {
				return err
			}
			if none {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("forget the profile: %w", err)
				}
				return a.done("no profile is used from now on")
			}
			a.profile = args[0]
			if _, _, _, err := a.chosen(); err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return fmt.Errorf("make the configuration directory: %w", err)
			}
			if err := atomicfile.Write(path, []byte(args[0]+"\n"), 0o600); err != nil {
				return err
			}
			return a.done("profile %s is used from now on", args[0])
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "use none")
	return cmd
}

// client is the way to core. Flags win over the environment, that over the profile, and that
// over the login. A profile chosen by a flag is a flag.
func (a *app) client() (*api.Client, error) {
	saved, err := readLogin()
	if err != nil {
		return nil, err
	}
	p, _, explicit, err := a.chosen()
	if err != nil {
		return nil, err
	}
	key, err := keyOfEnvironment()
	if err != nil {
		return nil, err
	}
	address := firstOf(a.core, os.Getenv("VARAN_CORE"), p.URL, saved.Core, defaultCore)
	if explicit {
		address = firstOf(a.core, p.URL, os.Getenv("VARAN_CORE"), saved.Core, defaultCore)
	}
	// A key that is kept belongs to the core that it is kept for: it is never sent to another.
	ours := p.URL != "" && sameCore(address, p.URL)
	if ours && !p.Key.IsEmpty() && (explicit || key.IsEmpty()) {
		key = p.Key
	}
	if key.IsEmpty() && sameCore(address, cmp.Or(saved.Core, defaultCore)) {
		key = fleet.NewSecret(saved.Key)
	}
	client := newClient(address, key)
	if ours {
		err = p.trust(client)
	}
	return client, err
}

// keyOfEnvironment is the API key of the variables, if they have one.
func keyOfEnvironment() (fleet.Secret, error) {
	if key := os.Getenv("VARAN_API_KEY"); key != "" {
		return fleet.NewSecret(key), nil
	}
	file := os.Getenv("VARAN_API_KEY_FILE")
	if file == "" {
		return fleet.Secret{}, nil
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the file that this very user names
	if err != nil {
		return fleet.Secret{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read VARAN_API_KEY_FILE: %w", err)}
	}
	return fleet.NewSecret(strings.TrimSpace(string(raw))), nil
}
