package plan

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// servicePrefix starts the field of a stack's cause that repeats one of a service.
const servicePrefix = "services."

// Texts of causes that tell a field that came or went from one that changed.
const (
	textAdded   = "added"
	textRemoved = "removed"
)

// String says the cause in a few words: "image: web:1 -> web:2".
func (c Cause) String() string {
	value := func(v string) string {
		if v == "" || isFile(c.Field) {
			return ""
		}
		return ": " + clip(v)
	}
	switch {
	case c.Field == "":
		return cmp.Or(c.Text, string(c.Kind))
	case c.Kind == CauseDrift && c.From == "" && c.To == "":
		return c.Field + " changed (live)"
	case c.Kind == CauseDrift:
		return c.Field + ": " + orNone(c.From) + " -> " + orNone(c.To) + " (live)"
	case c.Text == textAdded:
		return c.Field + " added" + value(c.To)
	case c.Text == textRemoved:
		return c.Field + " removed" + value(c.From)
	case c.Text != "":
		return c.Field + ": " + c.Text
	case c.Secret, c.From == "" && c.To == "", isFile(c.Field):
		return c.Field + " changed"
	}
	return c.Field + ": " + orNone(c.From) + " -> " + orNone(c.To)
}

// isFile tells fields whose values are digests, which say nothing to people.
func isFile(field string) bool {
	return strings.HasPrefix(field, "file ") || strings.Contains(field, ".file ")
}

func orNone(v string) string {
	if v == "" {
		return `""`
	}
	return clip(v)
}

// clip keeps one value on one line.
func clip(v string) string {
	const most = 80
	runes := []rune(v)
	if len(runes) > most {
		v = string(runes[:most-1]) + "…"
	}
	if strings.ContainsAny(v, "\n\r\t") {
		return strconv.Quote(v)
	}
	return v
}

// fieldCauses lists the fields that differ, the image first.
func fieldCauses(have, want []fleet.Field) []Cause {
	have, want = byPath(have), byPath(want)
	var causes []Cause
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && have[0].Path < want[0].Path:
			causes = append(causes, fieldCause(have[0], fleet.Field{}, textRemoved))
			have = have[1:]
		case len(have) == 0 || want[0].Path < have[0].Path:
			causes = append(causes, fieldCause(fleet.Field{}, want[0], textAdded))
			want = want[1:]
		default:
			if !have[0].Same(want[0]) {
				causes = append(causes, fieldCause(have[0], want[0], ""))
			}
			have, want = have[1:], want[1:]
		}
	}
	slices.SortStableFunc(causes, func(a, b Cause) int { return cmp.Compare(rank(a), rank(b)) })
	return causes
}

func rank(c Cause) int {
	if c.Field == "image" {
		return 0
	}
	return 1
}

func fieldCause(have, want fleet.Field, text string) Cause {
	c := Cause{Kind: CauseField, Field: cmp.Or(want.Path, have.Path), Origin: want.Origin, Text: text}
	if have.Keyed != "" || want.Keyed != "" {
		c.Secret = true
		return c
	}
	c.From, c.To = have.Value, want.Value
	return c
}

func byPath(fields []fleet.Field) []fleet.Field {
	less := func(a, b fleet.Field) int { return cmp.Compare(a.Path, b.Path) }
	if slices.IsSortedFunc(fields, less) {
		return fields
	}
	sorted := slices.Clone(fields)
	slices.SortStableFunc(sorted, less)
	return sorted
}

// updateCauses are the reasons that belong to no service.
func updateCauses(have, want *fleet.Release, volumes []fleet.Volume) []Cause {
	if have.Digest == "" {
		return []Cause{{Kind: CauseUnknown, Text: "there is no record of what was deployed"}}
	}
	var causes []Cause
	for _, v := range volumes {
		causes = append(causes, Cause{
			Kind: CauseField, Field: "volumes." + v.Name, Text: "the definition changed", Origin: v.Origin,
		})
	}
	option := func(field, from, to string) {
		if from != to {
			causes = append(causes, Cause{Kind: CauseOptions, Field: field, From: from, To: to})
		}
	}
	option("project_name", have.Project, want.Project)
	a, b := have.Options, want.Options
	option("auto_pull", strconv.FormatBool(a.Pull), strconv.FormatBool(b.Pull))
	option("run_build", strconv.FormatBool(a.Build), strconv.FormatBool(b.Build))
	option("destroy_before_deploy", strconv.FormatBool(a.DestroyFirst), strconv.FormatBool(b.DestroyFirst))
	option("ignore_services", strings.Join(a.IgnoreServices, ","), strings.Join(b.IgnoreServices, ","))
	option("directory", a.Dir, b.Dir)
	option("registry_account", account(a.Registry), account(b.Registry))
	changed := func(field string, differs bool) {
		if differs {
			causes = append(causes, Cause{Kind: CauseOptions, Field: field, Text: "changed"})
		}
	}
	changed("pre_deploy", a.PreDeploy != b.PreDeploy)
	changed("post_deploy", a.PostDeploy != b.PostDeploy)
	changed("on_clone", a.FirstDeploy != b.FirstDeploy)
	changed("extra_args", a.Up != b.Up)
	changed("build_extra_args", a.BuildWith.NoCache != b.BuildWith.NoCache || a.BuildWith.Pull != b.BuildWith.Pull ||
		!maps.Equal(a.BuildWith.Args, b.BuildWith.Args))
	return causes
}

// sourceCauses name the commit of another repository that the files are from: the plan
// itself names that of the sync.
func sourceCauses(have, want fleet.Source) []Cause {
	if want.Repository == "" || have.Repository == want.Repository && have.Commit.ID == want.Commit.ID {
		return nil
	}
	c := Cause{Kind: CauseSource, Field: "commit of " + want.Repository, To: want.Commit.Short()}
	if have.Repository != want.Repository {
		c.Text = textAdded
		return []Cause{c}
	}
	c.From = have.Commit.Short()
	return []Cause{c}
}

func account(a fleet.RegistryAccount) string {
	if a.Account == "" {
		return ""
	}
	return a.Account + "@" + a.Registry
}

// changedVolumes are the volumes that exist and are defined otherwise now. One that left
// the file stays on the host, and a new one destroys nothing.
func changedVolumes(have, want []fleet.Volume) []fleet.Volume {
	var changed []fleet.Volume
	for _, w := range want {
		same := func(h fleet.Volume) bool { return h.Name == w.Name }
		if i := slices.IndexFunc(have, same); i >= 0 && have[i].Digest != w.Digest {
			changed = append(changed, w)
		}
	}
	slices.SortStableFunc(changed, func(a, b fleet.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return changed
}
