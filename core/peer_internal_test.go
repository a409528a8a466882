package core

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestW14OnlyTrustedProxiesSayWhoTheClientIs(t *testing.T) {
	t.Parallel()
	var trusted []Network
	for _, text := range []string{"10.0.0.0/8", "127.0.0.1", "fd00::/8"} {
		var n Network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, n)
	}
	for name, tc := range map[string]struct {
		peer string
		hops []string
		want string
	}{
		"a stranger's header":      {"192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1:5"},
		"no header":                {"10.0.0.1:5", nil, "10.0.0.1:5"},
		"one proxy":                {"10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7:0"},
		"what the client forged":   {"10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7:0"},
		"two proxies":              {"127.0.0.1:5", []string{"203.0.113.9, 198.51.100.7, 10.2.3.4"}, "198.51.100.7:0"},
		"two headers":              {"127.0.0.1:5", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7:0"},
		"with a port":              {"127.0.0.1:5", []string{"198.51.100.7:4711"}, "198.51.100.7:0"},
		"IPv6":                     {"[fd00::1]:5", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		"IPv6 in brackets":         {"[fd00::1]:5", []string{"[2001:db8::7]:99"}, "[2001:db8::7]:0"},
		"a proxy in IPv6's IPv4":   {"[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7:0"},
		"nonsense":                 {"10.0.0.1:5", []string{"198.51.100.7, unknown"}, "10.0.0.1:5"},
		"nonsense behind a proxy":  {"10.0.0.1:5", []string{"nonsense, 10.9.9.9"}, "10.9.9.9:0"},
		"none but trusted proxies": {"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		"a unix socket":            {"@", []string{"198.51.100.7"}, "@"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			h := realPeer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }),
				func() []Network { return trusted })
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			r.RemoteAddr = tc.peer
			for _, hop := range tc.hops {
				r.Header.Add("X-Forwarded-For", hop)
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != tc.want {
				t.Errorf("the client is %s, want %s", got, tc.want)
			}
		})
	}
}
