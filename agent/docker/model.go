package docker

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// writeModel puts the model of a release where the worker reads it: in memory when it
// holds secrets of this host, or out of encrypted files.
func (e *Engine) writeModel(stack string, release *fleet.Release) (string, error) {
	raw, err := e.blobs.get(release.Model)
	if err != nil {
		return "", err
	}
	inRAM, err := e.filesInRAM(release)
	if err != nil {
		return "", err
	}
	dir, out := filepath.Dir(e.modelPath(stack)), raw
	local := e.secrets.has(raw)
	if local || len(inRAM) > 0 {
		if out, err = e.completeModel(raw, inRAM, filepath.Join(e.blobs.ram.dir, ramStack(stack))); err != nil {
			return "", err
		}
	}
	if local || release.SecretModel {
		dir, err = e.blobs.ram.ensure(ramModel(stack))
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("make model directory: %w", err)
	}
	_ = atomicfile.Clean(dir) // what an agent that died left; the next deployment tries again
	name := filepath.Join(dir, filepath.Base(e.modelPath(stack)))
	return name, atomicfile.Write(name, out, 0o600)
}

// filesInRAM lists the files of a release that are links to files in memory.
func (e *Engine) filesInRAM(release *fleet.Release) ([]string, error) {
	var out []string
	for _, f := range release.Files {
		if !f.Salted && f.Size > maxFilled {
			continue
		}
		secret := f.Salted
		if !secret {
			raw, err := e.blobs.get(f.Digest)
			if err != nil {
				return nil, err
			}
			secret = e.secrets.has(raw)
		}
		if secret {
			out = append(out, f.Path)
		}
	}
	return out, nil
}

// completeModel puts local secrets into the values of a model, and adds to each mount of a
// directory the files in it that are kept in memory. It works on the values and not on the
// text: a secret must not be able to become a part of the document.
func (e *Engine) completeModel(raw []byte, inRAM []string, ramDir string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if unknown := e.fillNode(&doc); unknown != "" {
		return nil, fmt.Errorf("the secret %s is not on this host", unknown)
	}
	if len(doc.Content) == 1 {
		if services := child(doc.Content[0], "services"); services != nil {
			for i := 1; i < len(services.Content); i += 2 {
				mountLinks(services.Content[i], inRAM, ramDir)
			}
		}
	}
	return yaml.Marshal(&doc)
}

// fillNode puts local secrets into every value below a node.
func (e *Engine) fillNode(n *yaml.Node) (unknown string) {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, fleet.LocalMark) {
		var filled []byte
		filled, unknown = e.secrets.fill([]byte(n.Value))
		n.SetString(string(filled))
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		if missing := e.fillNode(c); missing != "" {
			unknown = missing
		}
	}
	return unknown
}

// mountLinks mounts what links in a mounted directory lead to: in the container they
// would lead nowhere.
func mountLinks(service *yaml.Node, inRAM []string, ramDir string) {
	volumes := child(service, "volumes")
	if volumes == nil {
		return
	}
	for _, v := range volumes.Content {
		source, target := text(v, "source"), text(v, "target")
		if text(v, "type") != "bind" || target == "" || !strings.HasPrefix(source, ".") {
			continue
		}
		for _, name := range inRAM {
			below, ok := strings.CutPrefix(name, path.Clean(source)+"/")
			if path.Clean(source) == "." {
				below, ok = name, true
			}
			if ok {
				volumes.Content = append(volumes.Content, bind(filepath.Join(ramDir, filepath.FromSlash(name)), path.Join(target, below)))
			}
		}
	}
}

// bind is a mount of one file that the container cannot change.
func bind(source, target string) *yaml.Node {
	scalar := func(v string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v, Style: yaml.DoubleQuotedStyle}
	}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		scalar("type"), scalar("bind"), scalar("source"), scalar(source), scalar("target"), scalar(target),
		scalar("read_only"),
		{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"},
	}}
}

// child finds a key of a mapping.
func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node, key string) string {
	if c := child(n, key); c != nil {
		return c.Value
	}
	return ""
}
