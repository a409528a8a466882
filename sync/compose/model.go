package compose

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// model writes the resolved model and keeps it as a blob.
//
// It is JSON, which is YAML: the YAML encoder writes some strings, such as a line of
// spaces before one that begins with a tab, in a way that no YAML parser reads back.
func (l *load) model(project *types.Project) (fleet.Digest, error) {
	tree, err := modelTree(project)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(tree); err != nil {
		return "", fmt.Errorf("write the resolved model: %w", err)
	}
	data := l.seal.prefix(escapeForYAML(buf.Bytes()))
	digest := fleet.SumDigest(data)
	l.content[digest] = Blob{Size: int64(len(data)), data: data}
	return digest, nil
}

// modelTree is the project as compose-go reads it back to the same one.
func modelTree(project *types.Project) (map[string]any, error) {
	project.Extensions = nil
	tree, err := jsonTree(project)
	if err != nil {
		return nil, fmt.Errorf("write the resolved model: %w", err)
	}
	services, _ := tree["services"].(map[string]any)
	for _, value := range services {
		service, _ := value.(map[string]any)
		for _, key := range []string{"command", "entrypoint"} {
			if service[key] == nil {
				delete(service, key)
			}
		}
	}
	secrets, _ := tree["secrets"].(map[string]any)
	for name, value := range secrets {
		// compose-go never writes the content of a secret, and reads it back from here.
		if secret, ok := value.(map[string]any); ok && project.Secrets[name].Content != "" {
			secret[types.SecretConfigXValue] = project.Secrets[name].Content
		}
	}
	return tree, nil
}

// escapeForYAML escapes the characters that JSON allows as they are and YAML does not.
func escapeForYAML(data []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(data) {
		if r >= 0x7f && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes()
}
