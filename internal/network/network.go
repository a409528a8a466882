// Package network reads the networks that people allow, and says whose address one is.
package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Parse reads a network, or a single address, which is one too. IPv4 that is written as IPv6
// (::ffff:10.0.0.0/104) is IPv4.
func Parse(text string) (netip.Prefix, error) {
	bad := fmt.Errorf("%q is no address and no network: 203.0.113.7, 10.0.0.0/8 and 2001:db8::/32 are", text)
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, bad
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, bad
	}
	const mapped = 96 // bits before an IPv4 address in IPv6
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < mapped {
			return netip.Prefix{}, bad
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-mapped)
	}
	return prefix.Masked(), nil
}

// Contain reports whether any of the networks has the address.
func Contain(networks []netip.Prefix, addr netip.Addr) bool {
	addr = Plain(addr)
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Plain is an address without what does not say whose it is: IPv4 in the clothes of IPv6, and
// the interface that it was seen on.
func Plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// Host is what one host has: an address, or of IPv6 the /64, in which it may take any. Limits
// per address count by it.
func Host(addr netip.Addr) netip.Prefix { return of(addr, 32, 64) } //nolint:mnd // the sizes are the meaning

// Customer is what one customer of a provider usually has: a /24, or a /56.
func Customer(addr netip.Addr) netip.Prefix { return of(addr, 24, 56) } //nolint:mnd // the sizes are the meaning

// of is zero for an unknown address: all of them share one place.
func of(addr netip.Addr, bits4, bits6 int) netip.Prefix {
	addr = Plain(addr)
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
