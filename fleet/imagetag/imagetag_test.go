package imagetag_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet/imagetag"
)

func TestTheNewestTagThatAPolicyAllows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy, current string
		tags            []string
		want            string
	}{
		"a newer patch":                   {"~1.4", "1.4.1", []string{"1.4.0", "1.4.9", "1.4.10", "1.5.0", "2.0.0"}, "1.4.10"},
		"a newer minor":                   {"^1.4", "1.4.1", []string{"1.4.2", "1.9.0", "2.0.0"}, "1.9.0"},
		"nothing newer":                   {"~1.4", "1.4.10", []string{"1.4.9", "1.4.10"}, ""},
		"a range of two ends":             {">=1.4 <1.9", "1.4.1", []string{"1.8.7", "1.9.0"}, "1.8.7"},
		"the same flavour only":           {"*", "1.25-alpine", []string{"1.26", "1.26-bookworm", "1.26-alpine", "1.27.1-alpine"}, "1.26-alpine"},
		"the same number of parts only":   {"*", "16", []string{"17", "17.2", "18.0.1"}, "17"},
		"a v is part of the form":         {"*", "v1.2.3", []string{"1.9.9", "v1.2.4"}, "v1.2.4"},
		"a release after its candidate":   {"^2", "2.0.0-rc.1", []string{"2.0.0-rc.1", "2.0.0"}, "2.0.0"},
		"no candidate for a release":      {"^2", "2.0.0", []string{"2.1.0-rc.1"}, ""},
		"latest is below every version":   {"~1.4", "latest", []string{"1.4", "1.4.2", "1.4.3-alpine", "latest"}, "1.4.2"},
		"not below what runs":             {"~1.4", "1.5.0", []string{"1.4.9"}, ""},
		"numbers that are too long":       {"*", "1.0.0", []string{"99999999999999999999.0.0"}, ""},
		"an expression":                   {`/^16\.\d+-alpine$/`, "16.9-alpine", []string{"16.10-alpine", "16.2-alpine", "17.0-alpine", "16.11"}, "16.10-alpine"},
		"an expression and another tag":   {`/^stable-\d+$/`, "latest", []string{"stable-8", "stable-12", "stable-9"}, "stable-12"},
		"an expression and nothing newer": {`/^\d+$/`, "100", []string{"99", "100", "0099"}, ""},
		"no tag at all":                   {"*", "1", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := imagetag.Parse(c.policy)
			if err != nil {
				t.Fatal(err)
			}
			got, newer := p.Newest(c.current, c.tags)
			if got != c.want || newer != (c.want != "") {
				t.Errorf("%q, %t; want %q", got, newer, c.want)
			}
		})
	}
}

func TestAPolicyThatIsNoneSaysWhatOneIs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " ", "newest", "~1.x.y.z", "/", "//", "/a", "/[/", ">="} {
		_, err := imagetag.Parse(text)
		fault, ok := errors.AsType[*imagetag.Error](err)
		if !ok || fault.Message == "" || fault.Hint == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheNewestTagIsOneOfThemWhateverTheirOrder(t *testing.T) {
	t.Parallel()
	tag := rapid.OneOf(
		rapid.StringMatching(`v?[0-9]{1,3}(\.[0-9]{1,3}){0,2}(-(alpine|rc\.[0-9]))?`), rapid.SampledFrom([]string{"latest", "edge", ""}),
	)
	rapid.Check(t, func(t *rapid.T) {
		tags := rapid.SliceOf(tag).Draw(t, "tags")
		current := tag.Draw(t, "current")
		p, err := imagetag.Parse(rapid.SampledFrom([]string{"*", "^1", "~2.3", `/^\d/`, "/./"}).Draw(t, "policy"))
		if err != nil {
			t.Fatal(err)
		}
		got, newer := p.Newest(current, tags)
		if newer && (!slices.Contains(tags, got) || got == current) {
			t.Fatalf("%q of %q, now %q", got, tags, current)
		}
		shuffled := rapid.Permutation(tags).Draw(t, "shuffled")
		again, _ := p.Newest(current, shuffled)
		// Two spellings of one version ("1.0" and "1.00") are as good as each other.
		if _, above := p.Newest(got, []string{again}); newer && above {
			t.Fatalf("%q of %q, and %q of %q", got, tags, again, shuffled)
		}
		if newer {
			if more, above := p.Newest(got, tags); above && current != "latest" && p.String()[0] != '/' && current != "" && current != "edge" {
				t.Fatalf("%q is above the newest, %q, of %q", more, got, tags)
			}
		}
	})
}
