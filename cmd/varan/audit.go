package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
)

// maxAuditLine is more than any record takes.
const maxAuditLine = 4 << 20

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The history as evidence: verify it, export it, note its head",
	}
	cmd.AddCommand(a.auditVerifyCommand(), a.auditExportCommand(), &cobra.Command{
		Use:   "head",
		Short: "Print the number and hash of the newest record, to be kept elsewhere",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			head, err := client.AuditHead(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(head)
			}
			fmt.Fprintln(a.stdout, head.ID, head.Hash)
			return nil
		},
	})
	return cmd
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that no record was changed, taken out or put in",
		Long: `Check that no record of the history was changed, taken out or put in, and say where the
first such place is. The records are fetched from core and checked here. With FILE it is an
export that is checked, and no core is needed.

Somebody who can write to core's database could also compute the whole chain anew. Against
that, keep what varan audit head prints somewhere else, and give it to --head later.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var kept *audit.Hash
			if head != "" {
				kept = new(audit.Hash)
				if err := kept.UnmarshalText([]byte(head)); err != nil {
					return exit.Usagef("--head: %v", err)
				}
			}
			source, err := a.auditSource(cmd, args)
			if err != nil {
				return err
			}
			defer func() { _ = source.Close() }()
			report, err := verifyAudit(source, kept)
			if err != nil {
				return err
			}
			return a.showAudit(report)
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "a hash that has to be in the history: what varan audit head printed once")
	return cmd
}

// auditSource is an export: a file's, or one made now.
func (a *app) auditSource(cmd *cobra.Command, args []string) (io.ReadCloser, error) {
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the export: %w", err)}
		}
		return f, nil
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	return client.AuditExport(cmd.Context(), time.Time{}, time.Time{})
}

func verifyAudit(source io.Reader, kept *audit.Hash) (audit.Report, error) {
	v := audit.NewVerifier(kept)
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, maxAuditLine)
	for lines.Scan() && v.Read(lines.Bytes()) {
	}
	if err := lines.Err(); err != nil {
		return audit.Report{}, fmt.Errorf("read the export: %w", err)
	}
	return v.End(), nil
}

// showAudit prints what was found; what is wrong is an error.
func (a *app) showAudit(r audit.Report) error {
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if r.Break == nil {
		fmt.Fprintf(a.stdout, "records %d to %d are as they were recorded", r.First, r.Last)
		if r.Deleted > 0 {
			fmt.Fprintf(a.stdout, "; of %d only the hash is left, deleted because of their age", r.Deleted)
		}
		if !r.Whole {
			fmt.Fprint(a.stdout, "; this is a part of the history, not all of it")
		}
		fmt.Fprintf(a.stdout, "\nhead %d %s\n", r.Last, r.Head)
	}
	switch {
	case r.Break != nil:
		return &exit.Error{
			Err:  fmt.Errorf("the history is broken at record %d: %s", r.Break.ID, printable(r.Break.Reason)),
			Hint: "the records before it are as they were recorded; compare with an older export or a backup",
		}
	case r.Kept != nil && !*r.Kept:
		return &exit.Error{
			Err:  errors.New("the hash given with --head is not in the history: it was rewritten since, or is that of another core"),
			Hint: "compare with an older export or a backup",
		}
	}
	return nil
}

func (a *app) auditExportCommand() *cobra.Command {
	var since, until, format, out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the history to a file or standard output, oldest first",
		Example: `  varan audit export --out audit.jsonl && varan audit verify audit.jsonl
  varan audit export --since 2026-10-01 --until 2026-11-01 --format csv > october.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "jsonl" && format != "csv" {
				return exit.Usagef("--format is jsonl or csv")
			}
			from, err := when("since", since, time.Now())
			if err != nil {
				return err
			}
			to, err := when("until", until, time.Now())
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			source, err := client.AuditExport(cmd.Context(), from, to)
			if err != nil {
				return err
			}
			defer func() { _ = source.Close() }()
			return a.writeAudit(source, format, out)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what was recorded from then on")
	cmd.Flags().StringVar(&until, "until", "", "only what was recorded before then")
	cmd.Flags().StringVar(&format, "format", "jsonl", "jsonl, which varan audit verify reads, or csv, for spreadsheets")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write to this file, which must not exist yet")
	return cmd
}

func (a *app) writeAudit(source io.Reader, format, out string) (err error) {
	to := a.stdout
	if out != "" {
		f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return &exit.Error{Code: exit.Config, Err: fmt.Errorf("write the export: %w", err)}
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	if format == "csv" {
		err = auditCSV(to, source)
	} else {
		_, err = io.Copy(to, source)
	}
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// auditCSV writes records as a table. Of deleted ones there is nothing to show.
func auditCSV(to io.Writer, source io.Reader) error {
	w := csv.NewWriter(to)
	_ = w.Write([]string{
		"id", "at", "recorded", "kind", "sync", "stack", "server", "actor", "text", "cause", "run", "op", "commit", "status",
		"duration_ms", "remote", "listener", "data", "hash",
	})
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, maxAuditLine)
	for lines.Scan() {
		var line audit.Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		if line.Event != nil {
			_ = w.Write(auditRow(*line.Event)) // Flush tells
		}
	}
	w.Flush()
	return errors.Join(lines.Err(), w.Error())
}

func auditRow(e api.Event) []string {
	data := make([]string, 0, len(e.Data))
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		data = append(data, key+"="+e.Data[key])
	}
	row := []string{
		fmt.Sprint(e.ID), e.At.Format(time.RFC3339Nano), e.Recorded.Format(time.RFC3339Nano), e.Kind, e.Sync, e.Stack, e.Server,
		e.Actor, e.Text, fmt.Sprint(e.Cause), e.Run, e.Op, e.Commit, e.Status, fmt.Sprint(e.DurationMS), e.Remote, e.Listener,
		strings.Join(data, " "), e.Hash,
	}
	for i, cell := range row {
		// A spreadsheet would take these for formulas.
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			row[i] = "'" + cell
		}
	}
	return row
}
