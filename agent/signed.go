package agent

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how Git names commits
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// vet refuses the release of a commit that the host does not believe. What runs stays.
func (a *Agent) vet(ctx context.Context, order fleet.Order) *fleet.Outcome {
	if a.cfg.Verify == nil || !bringsRelease(order.Kind) {
		return nil
	}
	by, err := a.signer(ctx, order)
	if err == nil {
		a.log.InfoContext(ctx, "commit is signed", slog.String("stack", order.Stack), slog.String("commit", order.Release.Commit.Short()),
			slog.String("by", by))
		return nil
	}
	refused := &fleet.Outcome{Status: fleet.OutcomeFailed, Untouched: true}
	if ctx.Err() != nil {
		refused.Status, refused.Reason = fleet.OutcomeCanceled, ctx.Err().Error()
		return refused
	}
	refused.Reason = fmt.Sprintf("this host accepts signed commits only, and %s is not accepted: %v", commitName(order.Release.Commit), err)
	refused.Hint = "sign the commit with a key of the host's policy, or add the key there"
	return refused
}

// bringsRelease reports whether an order puts a release on the host.
func bringsRelease(kind fleet.OrderKind) bool {
	return kind == fleet.OrderApply || kind == fleet.OrderAdopt || kind == fleet.OrderUpdate
}

func commitName(c fleet.Commit) string {
	if c.ID == "" {
		return "what has no commit"
	}
	return "commit " + c.Short()
}

// signer asks core for the commit of an order and says who signed it. That core gives the
// commit that it claims to deploy is checked by its name, which is its hash.
func (a *Agent) signer(ctx context.Context, order fleet.Order) (string, error) {
	var object wire.CommitObject
	if err := a.ask(ctx, "the commit", wire.VerbCommit, wire.CommitRequest{Order: order.ID}, &object); err != nil {
		return "", err
	}
	hash := sha1.New() //nolint:gosec // it is how Git names commits
	hash.Write([]byte("commit " + strconv.Itoa(len(object.Raw)) + "\x00"))
	hash.Write(object.Raw)
	if hex.EncodeToString(hash.Sum(nil)) != order.Release.Commit.ID {
		return "", errors.New("core gave another commit than it deploys")
	}
	return a.cfg.Verify(object.Raw)
}
