package network_test

import (
	"net/netip"
	"testing"

	"github.com/varanhq/varan/internal/network"
)

func TestNetworksAndSingleAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "10.1.2.3/8": "10.0.0.0/8", "[2001:db8::5]": "2001:db8::5/128",
		"2001:db8::1/32": "2001:db8::/32", "::ffff:10.0.0.5": "10.0.0.5/32", "::ffff:10.0.0.0/104": "10.0.0.0/8", "::/0": "::/0",
	} {
		if got, err := network.Parse(text); err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "core.example.com", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "::ffff:0:0/64", "10.0.0.5:80"} {
		if got, err := network.Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v", text, got)
		}
	}
}

func TestAnAddressIsInANetworkHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	allowed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for text, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fe80::1%eth0": true, "11.0.0.1": false, "2001:db8::1": false,
	} {
		if got := network.Contain(allowed, netip.MustParseAddr(text)); got != want {
			t.Errorf("Contain(%s) = %v", text, got)
		}
	}
	if network.Contain(allowed, netip.Addr{}) {
		t.Error("no address is in a network")
	}
}

func TestLimitsCountAllAddressesOfAHostAsOne(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ addr, host, customer string }{
		{"203.0.113.7", "203.0.113.7/32", "203.0.113.0/24"},
		{"::ffff:203.0.113.7", "203.0.113.7/32", "203.0.113.0/24"},
		{"2001:db8:1:2ff:a:b:c:d", "2001:db8:1:2ff::/64", "2001:db8:1:200::/56"},
		{"fe80::1%eth0", "fe80::/64", "fe80::/56"},
	} {
		addr := netip.MustParseAddr(tc.addr)
		if got := network.Host(addr).String(); got != tc.host {
			t.Errorf("Host(%s) = %s, want %s", addr, got, tc.host)
		}
		if got := network.Customer(addr).String(); got != tc.customer {
			t.Errorf("Customer(%s) = %s, want %s", addr, got, tc.customer)
		}
	}
	if got := network.Host(netip.Addr{}); got.IsValid() {
		t.Errorf("an unknown address is of %v", got)
	}
}
