package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Backup is an encrypted file with all that a core is.
type Backup struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Reason is why it was made: "asked", or "keys" if keys had changed.
	Reason string `json:"reason"`
	Bytes  int64  `json:"bytes"`
	// SHA256 is the sum that was written beside the file; empty when there is none.
	SHA256 string `json:"sha256"`
}

// Why a backup was made.
const (
	BackupAsked = "asked"
	BackupKeys  = "keys"
)

// Backups are those that core keeps.
type Backups struct {
	Dir        string   `json:"dir"`
	Recipients []string `json:"recipients"`
	Keep       int      `json:"keep"`
	Backups    []Backup `json:"backups"`
}

// BackupEvent is a line of the answer to a backup: what is under way, and at the end one of
// Backup and Error.
type BackupEvent struct {
	Text   string  `json:"text,omitempty"`
	Backup *Backup `json:"backup,omitempty"`
	Error  *Error  `json:"error,omitempty"`
}

// BackupContents is what is in a backup.
type BackupContents struct {
	Created time.Time `json:"created"`
	// Program is the version of Varan that made it, Schema that of its database, Core the
	// fingerprint of core's key.
	Program string           `json:"program"`
	Schema  int              `json:"schema"`
	Core    string           `json:"core"`
	Files   []BackupFile     `json:"files"`
	Rows    map[string]int64 `json:"rows"`
	// Servers are the keys that a core made of it accepts, APIKeys the names of API keys.
	Servers []BackupKey `json:"servers"`
	APIKeys []string    `json:"api_keys"`
	// OnboardingKeys are those that were good for something. A restore revokes them.
	OnboardingKeys int `json:"onboarding_keys"`
}

// BackupFile is a file in a backup.
type BackupFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// BackupKey is a server's key in a backup.
type BackupKey struct {
	Server      string    `json:"server"`
	State       string    `json:"state"`
	PublicKey   string    `json:"public_key"`
	Fingerprint string    `json:"fingerprint"`
	Since       time.Time `json:"since"`
}

// Headers of an exported backup.
const (
	BackupNameHeader = "Varan-Backup-Name"
	BackupSumHeader  = "Varan-Backup-Sha256"
)

// ListBackups lists the backups that core keeps, newest first.
func (c *Client) ListBackups(ctx context.Context) (Backups, error) {
	return get[Backups](ctx, c, "/backups")
}

// MakeBackup has core make a backup, and tells how far it is.
func (c *Client) MakeBackup(ctx context.Context, each func(text string)) (Backup, error) {
	var made Backup
	var ended bool
	resp, err := c.open(ctx, http.MethodPost, Prefix+"/backups", nil)
	if err != nil {
		return made, err
	}
	defer func() { _ = resp.Body.Close() }()
	err = lines(ctx, resp.Body, func(e BackupEvent) error {
		switch {
		case e.Error != nil:
			return e.Error
		case e.Backup != nil:
			made, ended = *e.Backup, true
		default:
			each(e.Text)
		}
		return nil
	})
	if err == nil && !ended {
		err = ErrCutOff
	}
	return made, err
}

// ExportBackup has core make a backup and writes it to w instead of keeping it. What was
// written counts only when there is no error.
func (c *Client) ExportBackup(ctx context.Context, w io.Writer) (Backup, error) {
	resp, err := c.open(ctx, http.MethodPost, Prefix+"/backups/export", nil)
	if err != nil {
		return Backup{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), resp.Body)
	made := Backup{
		Name: resp.Header.Get(BackupNameHeader), Created: time.Now().UTC(), Reason: BackupAsked, Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil)),
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return made, ErrCutOff
	case err != nil:
		return made, fmt.Errorf("read the backup: %w", err)
	case made.SHA256 != resp.Header.Get(BackupSumHeader):
		return made, errors.New("the backup was changed on its way")
	}
	return made, nil
}
