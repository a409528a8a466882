package main

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/internal/settings"
)

var updateDocs = flag.Bool("update-docs", false, "write the generated parts of the pages anew")

func tables() map[string]any {
	return map[string]any{"core": &core.Settings{}, "agent": &agentcmd.Settings{}}
}

func TestTheReferenceOfSettingsIsCurrent(t *testing.T) {
	t.Parallel()
	const page = root + "/docs/configuration.md"
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, table := range tables() {
		part := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]*-->\n).*?(<!-- end -->)`)
		if !part.MatchString(text) {
			t.Fatalf("%s has no place for the settings of %s", page, name)
		}
		text = part.ReplaceAllString(text, "${1}"+strings.ReplaceAll(settings.Reference(table), "$", "$$")+"${2}")
	}
	if text == string(raw) {
		return
	}
	if !*updateDocs {
		t.Fatalf("%s does not say what the tables of settings say: go generate ./cmd/varan", page)
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestA017EverySettingIsStaticOrDynamic(t *testing.T) {
	t.Parallel()
	flags := newRoot(nil, nil, nil)
	for name, table := range tables() {
		if _, err := settings.Load(table, settings.Source{}); err != nil {
			t.Errorf("%s: the defaults alone are refused: %v", name, err)
		}
		cmd, _, err := flags.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, r := range settings.Rows(table) {
			if r.Doc == "" || !r.Tagged {
				t.Errorf("%s: %s has no doc, or its reload is neither static nor dynamic", name, r.Key)
			}
			for _, word := range slices.Concat([]string{r.Key}, r.Env, r.Aliases) {
				if seen[word] {
					t.Errorf("%s: %s is there twice", name, word)
				}
				seen[word] = true
			}
			for _, f := range []string{r.Flag, r.FileFlag} {
				if f != "" && cmd.Flags().Lookup(f) == nil && cmd.PersistentFlags().Lookup(f) == nil {
					t.Errorf("%s: %s has no flag --%s", name, r.Key, f)
				}
			}
		}
	}
}
