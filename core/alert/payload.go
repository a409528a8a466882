package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// maxText is what every endpoint takes: Discord has the shortest messages.
const maxText = 1900

// errAddress says no more than that: the address may hold a token.
var errAddress = errors.New("the endpoint's url is not an http address")

// request makes the request that an endpoint expects.
func request(ctx context.Context, to fleet.Endpoint, a Alert) (*http.Request, error) {
	u, err := url.Parse(to.URL.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errAddress
	}
	var (
		body   []byte
		kind   = "application/json"
		header = map[string]string{}
	)
	switch to.Type {
	case fleet.EndpointSlack:
		body, err = json.Marshal(slackBody(a))
	case fleet.EndpointDiscord:
		body, err = json.Marshal(map[string]any{
			"content": clip(sign(a)+" **"+headline(a)+"**\n"+a.Text, maxText), "allowed_mentions": map[string]any{"parse": []string{}},
		})
	case fleet.EndpointNtfy:
		body, kind = []byte(clip(a.Text, maxText)), "text/plain; charset=utf-8"
		header["Title"], header["Priority"], header["Tags"] = headline(a), ntfyPriority(a), ntfyTag(a)
		if to.Email != "" {
			header["Email"] = to.Email
		}
	case fleet.EndpointPushover:
		form := u.Query() // token and user: in the body they are in nobody's access log
		form.Set("title", clip(headline(a), 250))
		form.Set("message", clip(a.Text, 1024))
		form.Set("priority", pushoverPriority(a))
		u.RawQuery = ""
		body, kind = []byte(form.Encode()), "application/x-www-form-urlencoded"
	case fleet.EndpointCustom:
		body, err = json.Marshal(komodoBody(a))
	default:
		return nil, fmt.Errorf("there is no endpoint type %q", string(to.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("encode an alert: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errAddress
	}
	req.Header.Set("Content-Type", kind)
	for name, value := range header {
		req.Header.Set(name, oneLine(value))
	}
	return req, nil
}

// headline is like "CRITICAL: ServerUnreachable alpha" or "OK: ...".
func headline(a Alert) string {
	text := string(shownLevel(a)) + ": " + string(a.Type)
	if a.Target.Name != "" {
		text += " " + a.Target.Name
	}
	if a.over() && a.Key != "" {
		text += " (resolved)"
	}
	return oneLine(text)
}

// shownLevel is OK once the matter is over.
func shownLevel(a Alert) Level {
	if a.over() && a.Key != "" {
		return LevelOK
	}
	return a.Level
}

func sign(a Alert) string {
	switch shownLevel(a) {
	case LevelCritical:
		return "🚨"
	case LevelWarning:
		return "⚠️"
	case LevelOK:
	}
	return "✅"
}

func slackBody(a Alert) any {
	type text struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	type block struct {
		Type string `json:"type"`
		Text text   `json:"text"`
	}
	// The three characters that Slack gives a meaning.
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(clip(a.Text, maxText))
	return struct {
		Text   string  `json:"text"`
		Blocks []block `json:"blocks"`
	}{
		Text: sign(a) + " " + headline(a),
		Blocks: []block{
			{"header", text{"plain_text", clip(sign(a)+" "+headline(a), 150)}},
			{"section", text{"mrkdwn", escaped}},
		},
	}
}

// komodoTarget names kinds as Komodo's API does.
var komodoTarget = map[string]string{
	"server": "Server", "stack": "Stack", "deployment": "Deployment", "repo": "Repo", "procedure": "Procedure",
	"resource_sync": "ResourceSync", "alerter": "Alerter",
}

// komodoBody is the shape of Komodo's alerts, so that what people built for those works.
// Komodo's ids are names here.
func komodoBody(a Alert) any {
	type target struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	type data struct {
		Type fleet.AlertType `json:"type"`
		Data map[string]any  `json:"data"`
	}
	kind, ok := komodoTarget[a.Target.Kind]
	if !ok {
		kind = "System"
	}
	body := struct {
		TS         int64  `json:"ts"`
		Resolved   bool   `json:"resolved"`
		Level      Level  `json:"level"`
		Target     target `json:"target"`
		Data       data   `json:"data"`
		ResolvedTS *int64 `json:"resolved_ts"`
		// Text is ours: the whole matter as a sentence.
		Text string `json:"text"`
	}{
		TS: a.At.UnixMilli(), Resolved: a.over(), Level: shownLevel(a), Target: target{kind, a.Target.Name},
		Data: data{a.Type, a.Data}, Text: a.Text,
	}
	if a.over() {
		ts := a.Resolved.UnixMilli()
		body.ResolvedTS = &ts
	}
	return body
}

func ntfyPriority(a Alert) string {
	switch shownLevel(a) {
	case LevelCritical:
		return "urgent"
	case LevelWarning:
		return "high"
	case LevelOK:
	}
	return "default"
}

func ntfyTag(a Alert) string {
	switch shownLevel(a) {
	case LevelCritical:
		return "rotating_light"
	case LevelWarning:
		return "warning"
	case LevelOK:
	}
	return "white_check_mark"
}

func pushoverPriority(a Alert) string {
	if shownLevel(a) == LevelCritical {
		return "1"
	}
	return "0"
}

// clip shortens a text to so many characters.
func clip(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// oneLine keeps a text from being more than one header or line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
