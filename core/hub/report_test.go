package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestP08ReportsAreMadeFitToBeShown(t *testing.T) {
	body, err := json.Marshal(wire.Report{
		Agent: fleet.AgentInfo{Hostname: "h\x1b]0;owned\a"},
		Stacks: []fleet.StackReport{{
			Stack: "web\n", Bad: []fleet.BadRelease{{Reason: "\u202egnp.exe"}},
			Release: fleet.Release{Services: []fleet.Service{{Fields: []fleet.Field{{Path: "command", Value: "a\nb"}}}}},
			Containers: []fleet.Container{{
				Name: strings.Repeat("é", 5000), Image: "<b>", RestartCount: -7,
				Drift: []fleet.Drift{{Field: "memory", Have: "\x00"}},
			}},
		}},
		Gone: []string{"a\tb"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// JSON turns what is not UTF-8 into the replacement character by itself.
	report, err := hub.DecodeReport(bytes.Replace(body, []byte("<b>"), []byte("\xff"), 1))
	if err != nil {
		t.Fatal(err)
	}
	stack := report.Stacks[0]
	container := stack.Containers[0]
	for what, pair := range map[string][2]string{
		"host name":       {report.Agent.Hostname, "h\ufffd]0;owned\ufffd"},
		"stack":           {stack.Stack, "web\ufffd"},
		"reason":          {stack.Bad[0].Reason, "\ufffdgnp.exe"},
		"drift":           {container.Drift[0].Have, "\ufffd"},
		"gone":            {report.Gone[0], "a\ufffdb"},
		"container name":  {container.Name, strings.Repeat("é", 2048)},
		"a release field": {stack.Release.Services[0].Fields[0].Value, "a\nb"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %.40q, want %.40q", what, pair[0], pair[1])
		}
	}
	if container.RestartCount != 0 {
		t.Errorf("%d restarts", container.RestartCount)
	}
}

func TestP08ReportsOverALimitAreRefused(t *testing.T) {
	list := func(element string, n int) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	stacks := func(body string) []byte { return []byte(`{"stacks":[` + body + `]}`) }
	containers := func(n int) string { return `{"containers":[` + list("{}", n) + `]}` }
	padded := func(n int) string { return `{"stack":"` + strings.Repeat("x", n-len(`{"stack":""}`)) + `"}` }
	for name, limit := range map[string]struct {
		below, above []byte
	}{
		"stacks":        {stacks(list("{}", 2000)), stacks(list("{}", 2001))},
		"containers":    {stacks(list(containers(5000), 2)), stacks(list(containers(5000), 2) + "," + containers(1))},
		"one stack":     {stacks(padded(2 << 20)), stacks(padded(2<<20 + 1))},
		"gone":          {[]byte(`{"gone":[` + list(`"a"`, 2000) + `]}`), []byte(`{"gone":[` + list(`"a"`, 2001) + `]}`)},
		"stacks, nulls": {stacks(list("null", 2000)), stacks(list("null", 2001))},
	} {
		if _, err := hub.DecodeReport(limit.below); err != nil {
			t.Errorf("%s, at the limit: %v", name, err)
		}
		if _, err := hub.DecodeReport(limit.above); err == nil {
			t.Errorf("%s, above the limit: accepted", name)
		}
	}
}

func TestP08ASmallBodyTakesLittleMemory(t *testing.T) {
	body := []byte(`{"stacks":[` + strings.Repeat("null,", 1<<20) + `null]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := hub.DecodeReport(body); err == nil {
		t.Error("a million stacks were accepted")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("decoding %d bytes took %d MiB", len(body), took>>20)
	}
}

func TestARefusedReportChangesNothing(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha", "web")
	for _, body := range []string{`{"full":true,"stacks":{}}`, `{"full":1}`, `x`} {
		wantCode(t, a.peer.Call(t.Context(), wire.VerbReport, json.RawMessage(body), nil), wire.CodeBadRequest)
	}
	many := fmt.Sprintf(`{"full":true,"stacks":[%s{}]}`, strings.Repeat("{},", 3000))
	wantCode(t, a.peer.Call(t.Context(), wire.VerbReport, json.RawMessage(many), nil), wire.CodeBadRequest)
	if got := c.hub.Observed()["alpha"]; len(got.Stacks) != 1 || !got.Online {
		t.Errorf("observed %+v", got)
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add([]byte(`{"agent":{},"full":true,"stacks":[{"stack":"a","containers":[{}]}],"gone":["b"]}`))
	f.Add([]byte(`{"stacks":null}`))
	f.Add([]byte(`{"stacks":[null,{"release":{"services":[]}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		report, err := hub.DecodeReport(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hub.DecodeReport(again); err != nil {
			t.Errorf("what was accepted is refused: %v", err)
		}
	})
}
