package core_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/commitsig"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// signing is a key that signs commits, and its line in an allowed_signers file.
func signing(t *testing.T) (signer ssh.Signer, line string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err = ssh.NewSignerFromKey(private)
	must(t, err)
	return signer, "ada@example.com " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// sign makes a commit that is like an unsigned one, and the head in its place.
func sign(t *testing.T, srv *gitserver.Server, signer ssh.Signer, unsigned string) string {
	t.Helper()
	raw := srv.Git("", "cat-file", "commit", unsigned) + "\n"
	signature, err := sshsig.Sign(strings.NewReader(raw), signer, sshsig.HashSHA512, "git")
	must(t, err)
	armored := strings.TrimSpace(string(sshsig.Armor(signature)))
	head, message, _ := strings.Cut(raw, "\n\n")
	commit := strings.TrimSpace(srv.Git(head+"\ngpgsig "+strings.ReplaceAll(armored, "\n", "\n ")+"\n\n"+message,
		"hash-object", "-t", "commit", "-w", "--stdin"))
	srv.ForcePush(commit)
	return commit
}

// unbelieved waits until the sync says that a commit is not believed.
func (r *rig) unbelieved(commit, why string) {
	r.t.Helper()
	r.eventually("commit "+commit+" is refused", func() bool {
		_, err := r.RunSync(r.t.Context(), "main")
		must(r.t, err)
		sync, err := r.Sync(r.t.Context(), "main")
		must(r.t, err)
		for _, d := range sync.State.Diagnostics {
			if d.Rule == "commit-signature" && strings.Contains(d.Message, fleet.Commit{ID: commit}.Short()) {
				if !strings.Contains(d.Message, why) {
					r.t.Errorf("it says %q, and should say %q", d.Message, why)
				}
				return true
			}
		}
		return false
	})
}

func (r *rig) believed(commit string) {
	r.t.Helper()
	r.eventually("commit "+commit+" is deployed", func() bool {
		_, err := r.RunSync(r.t.Context(), "main")
		must(r.t, err)
		stack := r.stack("web")
		return stack.Sync == fleet.Synced && stack.Commit.ID == commit
	})
}

func (r *rig) addSigned(srv *gitserver.Server, policy fleet.SignaturePolicy) {
	r.t.Helper()
	_, err := r.SetVariable(r.t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(r.t, err)
	_, err = r.AddSync(r.t.Context(), api.SyncSpec{Name: "main", URL: srv.URL(), AutoApply: true, Signatures: policy})
	must(r.t, err)
}

func TestOnlyACommitThatIsSignedIsApplied(t *testing.T) {
	r, srv := newRig(t), gitserver.New(t)
	r.join("alpha")
	signer, line := signing(t)
	eve, _ := signing(t)
	first := srv.Commit(repository("app:1"), "unsigned")
	r.addSigned(srv, fleet.SignaturePolicy{Require: fleet.SignaturesHead, AllowedSigners: line})
	r.unbelieved(first, "it is not signed")
	r.unbelieved(sign(t, srv, eve, first), "a key that is not accepted")
	r.believed(sign(t, srv, signer, first))
	// What lies between two signed heads is not looked at.
	srv.Commit(repository("app:2"), "unsigned")
	r.believed(sign(t, srv, signer, srv.Commit(repository("app:3"), "signed")))
}

func TestEveryCommitSinceTheLastMustBeSigned(t *testing.T) {
	r, srv := newRig(t), gitserver.New(t)
	r.join("alpha")
	signer, line := signing(t)
	srv.Commit(repository("app:0"), "what came before")
	first := srv.Commit(repository("app:1"), "the first that is applied")
	r.addSigned(srv, fleet.SignaturePolicy{Require: fleet.SignaturesAll, AllowedSigners: line})
	good := sign(t, srv, signer, first)
	r.believed(good)

	between := srv.Commit(repository("app:2"), "unsigned")
	r.unbelieved(sign(t, srv, signer, srv.Commit(repository("app:3"), "signed")), "of "+fleet.Commit{ID: between}.Short()+", which it is made from, it is not signed")

	r.stop()
	r.start()
	srv.ForcePush(good)
	sign(t, srv, signer, srv.Commit(repository("app:4"), "signed"))
	r.believed(sign(t, srv, signer, srv.Commit(repository("app:5"), "signed")))
}

func TestKeysThatCannotBeReadAreRefusedAtOnce(t *testing.T) {
	r := newRig(t)
	for _, policy := range []fleet.SignaturePolicy{
		{Require: fleet.SignaturesHead},
		{Require: fleet.SignaturesHead, AllowedSigners: "ada\n"},
		{PGPKeys: "no key"},
	} {
		_, err := r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://git.example.com/a/b", Signatures: policy})
		if refusal, ok := errors.AsType[*api.Error](err); !ok || refusal.Status != http.StatusBadRequest || refusal.Hint == "" {
			t.Errorf("%+v: %v", policy, err)
		}
	}
}

// A host can insist on signed commits whatever core believes.
func TestAHostHasTheLastWordOnSignedCommits(t *testing.T) {
	r, srv := newRig(t), gitserver.New(t)
	signer, line := signing(t)
	signers, err := commitsig.Parse(line, "")
	must(t, err)
	created, err := r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
	must(t, err)
	engine := fakeengine.New("alpha")
	r.serve(agent.Config{
		Dir: t.TempDir(), Server: "alpha", Cores: []string{r.BaseURL}, OnboardingToken: created.Token.Secret(),
		Engine: engine, Logger: slog.New(slog.DiscardHandler), Verify: signers.Verify,
	})
	first := srv.Commit(repository("app:1"), "unsigned")
	r.addSigned(srv, fleet.SignaturePolicy{})
	r.eventually("the host refuses it", func() bool {
		ops, err := r.History(t.Context(), "web", api.Page{Limit: 10})
		must(t, err)
		return len(ops) > 0 && strings.Contains(ops[0].Outcome.Reason, "accepts signed commits only") && len(engine.Orders()) == 0
	})
	r.believed(sign(t, srv, signer, first))
}
