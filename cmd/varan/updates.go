package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

type updatesFlags struct{ check, apply, newer bool }

func (a *app) updatesCommand() *cobra.Command {
	var f updatesFlags
	cmd := &cobra.Command{
		Use:   "updates [STACK]",
		Short: "Newer images of what runs: what there is, and what is done about it",
		Long: `Show how the images that run compare with their registries, as the last look found it. --check
looks now; a stack that is named need not poll for updates then. --apply deploys what is newer
in a stack, however young it is and whatever failed before; if it does not run well, the images
that ran before are put back.`,
		Example: "  varan updates\n  varan updates web --check\n  varan updates web --apply",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			stack := ""
			if len(args) > 0 {
				stack = args[0]
			}
			if f.apply && stack == "" {
				return &exit.Error{
					Code: exit.Usage, Err: fmt.Errorf("--apply needs a stack"),
					Hint: "`varan run --execution GlobalAutoUpdate` updates every stack that has auto_update = true",
				}
			}
			return a.updates(cmd.Context(), stack, f)
		},
	}
	cmd.Flags().BoolVar(&f.check, "check", false, "ask the registries now")
	cmd.Flags().BoolVar(&f.apply, "apply", false, "ask the registries now, and deploy what is newer")
	cmd.Flags().BoolVar(&f.newer, "newer", false, "only what has a newer image or tag")
	return cmd
}

func (a *app) updates(ctx context.Context, stack string, f updatesFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var result api.UpdateResult
	if f.check || f.apply {
		result, err = client.CheckUpdates(ctx, api.UpdateRequest{Stack: stack, Apply: f.apply})
	} else {
		result.Updates, err = client.Updates(ctx, stack, false)
	}
	if err != nil {
		return err
	}
	if f.newer {
		kept := []api.Update{}
		for i := range result.Updates {
			if u := &result.Updates[i]; u.Newer() || u.Tag != "" {
				kept = append(kept, *u)
			}
		}
		result.Updates = kept
	}
	if a.json {
		err = a.printJSON(result)
	} else {
		a.printUpdates(result, f)
	}
	if err == nil && result.Failed > 0 {
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("%d updates failed", result.Failed), Hint: "varan history, and varan why STACK, say more"}
	}
	return err
}

func (a *app) printUpdates(result api.UpdateResult, f updatesFlags) {
	s, now := styleFor(a.stdout), time.Now()
	for _, text := range result.Done {
		fmt.Fprintln(a.stderr, printable(text))
	}
	if len(result.Updates) == 0 {
		text := "nothing newer"
		if !f.newer {
			text = "no stack polls for updates, or none was looked at yet: poll_for_updates = true, then varan updates --check"
		}
		fmt.Fprintln(a.stderr, text)
		return
	}
	t := table{head: []string{"STACK", "SERVER", "SERVICE", "IMAGE", "RUNS", "NEWEST", "AGE", "POLICY", "DECISION"}}
	for i := range result.Updates {
		u := &result.Updates[i]
		newest, age := "-", "-"
		if u.Newer() {
			newest, age = shortDigest(u.Newest), ago(newestSince(u), now)
		}
		if u.Tag != "" {
			newest = strings.TrimPrefix(newest+", :"+u.Tag, "-, ")
		}
		t.add(u.Stack, u.Server, u.Service, printable(u.Image), shortDigest(u.Running), printable(newest), age,
			orDash(printable(u.Policy)), decision(s, u))
	}
	t.write(a.stdout, s)
}

// newestSince is what the age of a newer image is counted from.
func newestSince(u *api.Update) time.Time {
	if !u.Created.IsZero() {
		return u.Created
	}
	return u.FirstSeen
}

// decision says what is done about an image, and why.
func decision(s style, u *api.Update) string {
	word := words(u.State)
	switch u.State {
	case api.UpdateCurrent:
		word = s.green(word)
	case api.UpdateAvailable:
		word = s.yellow(word)
		if !u.Auto {
			word += ": only told"
		}
	case api.UpdateHeld:
		word = s.red(word)
	case api.UpdateTooYoung, api.UpdateSkipped, api.UpdateUnknown:
	}
	if u.Reason != "" {
		word += ": " + printable(u.Reason)
	}
	return word
}

// shortDigest is a digest as people tell them apart.
func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return orDash(hex[:min(12, len(hex))])
}
