package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/commitsig"
	"github.com/varanhq/varan/sync/git"
)

// ruleUnsigned is the finding about a commit that nobody accepted has signed.
const ruleUnsigned = "commit-signature"

// believe checks what a sync requires of its commits before anything of them is read. The
// findings say why the head is not believed.
func (s *source) believe(ctx context.Context, settings api.Sync, m *mirror, head *git.Tree) (fleet.Diagnostics, error) {
	policy := settings.Signatures
	if policy.Require == "" {
		return nil, nil
	}
	signers, err := commitsig.Parse(policy.AllowedSigners, policy.PGPKeys)
	if err != nil {
		return nil, fmt.Errorf("sync %s: %w", settings.Name, err)
	}
	believed, err := s.store.Believed(ctx, settings.Name)
	if err != nil {
		return nil, err
	}
	commits, err := s.toVerify(ctx, policy, m, head, believed)
	if err != nil {
		return nil, unreadable(settings.Name, err)
	}
	for _, c := range commits {
		if _, err := signers.Verify(c.Raw); err != nil {
			return unsigned(head.Commit(), c.ID, err), nil
		}
	}
	if believed == head.Commit().ID {
		return nil, nil
	}
	return nil, s.store.Believe(ctx, settings.Name, head.Commit().ID)
}

// toVerify are the commits that must be signed: the head, also when it was believed before,
// since keys may have been taken away; or all since the last one that was believed.
func (*source) toVerify(
	ctx context.Context, policy fleet.SignaturePolicy, m *mirror, head *git.Tree, believed string,
) ([]git.RawCommit, error) {
	raw, err := head.RawCommit()
	if err != nil || policy.Require != fleet.SignaturesAll || believed == "" || believed == raw.ID {
		return []git.RawCommit{raw}, err
	}
	commits, err := m.Since(ctx, head, believed)
	if !errors.Is(err, git.ErrHistory) {
		return commits, err
	}
	// The mirror was cloned when nobody asked for history. Now it is cloned with it.
	if head, _, err = m.Fetch(ctx); err != nil {
		return nil, err
	}
	return m.Since(ctx, head, believed)
}

func unsigned(head fleet.Commit, commit string, why error) fleet.Diagnostics {
	d := fleet.Diagnostic{
		Rule: ruleUnsigned, Severity: fleet.SeverityError,
		Message: fmt.Sprintf("commit %s is not believed: %v", head.Short(), why),
		Hint:    "sign it with an accepted key (git commit --amend -S), or change the sync's keys",
	}
	if commit != head.ID {
		d.Message = fmt.Sprintf("commit %s is not believed: of %s, which it is made from, %v", head.Short(), fleet.Commit{ID: commit}.Short(), why)
		d.Hint = "every commit since the last believed one must be signed with an accepted key"
	}
	return fleet.Diagnostics{d}
}

// checkSigners finds keys that cannot be read, before they keep every commit out.
func checkSigners(policy fleet.SignaturePolicy) error {
	signers, err := commitsig.Parse(policy.AllowedSigners, policy.PGPKeys)
	if err == nil && policy.Require != "" && signers.Empty() {
		err = errors.New("signatures are required and no key is accepted")
	}
	if err != nil {
		return &api.Error{
			Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: err.Error(),
			Hint: "give SSH keys in an allowed_signers file, or OpenPGP keys as gpg --export --armor prints them",
		}
	}
	return nil
}

// commit is the object of a commit that some sync has been at.
func (s *source) commit(ctx context.Context, id string) ([]byte, error) {
	for _, m := range s.mirrors.all() {
		tree, err := m.Tree(ctx, id)
		if errors.Is(err, git.ErrRef) {
			continue
		}
		if err != nil {
			return nil, err
		}
		raw, err := tree.RawCommit()
		return raw.Raw, err
	}
	return nil, fmt.Errorf("%w: no repository has commit %s", git.ErrRef, id)
}
