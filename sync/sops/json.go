package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// parseJSON reads an object in the order it is written.
func parseJSON(data []byte) (*parsed, *fault) {
	r := &jsonReader{decoder: json.NewDecoder(bytes.NewReader(data)), data: data}
	r.decoder.UseNumber()
	first, err := r.decoder.Token()
	if err != nil || first != json.Delim('{') {
		return nil, badFormat(place{1, 1}, "only a JSON object can be encrypted")
	}
	root, bad := r.object(1)
	if bad != nil {
		return nil, bad
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, badFormat(r.at(), "there is something after the end of the JSON object")
	}
	p := &parsed{format: JSON, docs: []branch{root}}
	p.takeBlock()
	return p, nil
}

type jsonReader struct {
	decoder *json.Decoder
	data    []byte
	nodes   int
	// line and from are where the last place was: places are asked for in order.
	line, from, offset int
}

// at is the place of the token read last.
func (r *jsonReader) at() place {
	offset := min(int(r.decoder.InputOffset()), len(r.data))
	if r.line == 0 {
		r.line = 1
	}
	for i := r.offset; i < offset; i++ {
		if r.data[i] == '\n' {
			r.line++
			r.from = i + 1
		}
	}
	r.offset = offset
	return place{r.line, max(offset-r.from, 1)}
}

func (r *jsonReader) next(depth int) (json.Token, *fault) {
	r.nodes++
	if r.nodes > maxNodes || depth > maxDepth {
		return nil, &fault{rule: ruleTooLarge, message: "the file holds too many values, or nests too deep", at: r.at()}
	}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, badFormat(r.at(), "the file is not valid JSON")
	}
	return token, nil
}

// object reads what follows a "{".
func (r *jsonReader) object(depth int) (branch, *fault) {
	out := branch{}
	seen := map[string]bool{}
	for {
		token, bad := r.next(depth)
		if bad != nil {
			return nil, bad
		}
		key, ok := token.(string)
		if !ok {
			return out, nil // the decoder allows nothing else but "}" here
		}
		where := r.at()
		where.col = max(where.col-len(key)-1, 1)
		if seen[key] {
			return nil, badFormat(where, "key %q is there twice", shown(key))
		}
		seen[key] = true
		value, bad := r.value(depth)
		if bad != nil {
			return nil, bad
		}
		out = append(out, item{key, value, where})
	}
}

func (r *jsonReader) value(depth int) (any, *fault) {
	token, bad := r.next(depth)
	if bad != nil {
		return nil, bad
	}
	return r.valueOf(token, depth)
}

func (r *jsonReader) valueOf(token json.Token, depth int) (any, *fault) {
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return wrap(r.object(depth + 1))
		}
		return wrap(r.array(depth + 1))
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return int(i), nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, badFormat(r.at(), "a number is out of range")
		}
		return f, nil
	}
	return token, nil
}

// array reads what follows a "[".
func (r *jsonReader) array(depth int) (list, *fault) {
	var out list
	for {
		token, bad := r.next(depth)
		if bad != nil {
			return nil, bad
		}
		if token == json.Delim(']') {
			return out, nil
		}
		where := r.at()
		value, bad := r.valueOf(token, depth)
		if bad != nil {
			return nil, bad
		}
		out = append(out, element{value, where})
	}
}

// emitJSON writes the first document, with tabs as SOPS does. JSON has no comments.
func emitJSON(docs []branch) ([]byte, error) {
	if len(docs) == 0 {
		return nil, errors.New("there is no document")
	}
	var raw bytes.Buffer
	if err := writeJSON(&raw, docs[0]); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw.Bytes(), "", "\t"); err != nil {
		return nil, errors.New("the file cannot be written as JSON")
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func writeJSON(out *bytes.Buffer, value any) error {
	switch v := value.(type) {
	case branch:
		return writeObject(out, v)
	case list:
		return writeArray(out, v)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return errors.New("a value cannot be written as JSON")
	}
	out.Write(raw)
	return nil
}

func writeObject(out *bytes.Buffer, b branch) error {
	out.WriteByte('{')
	comma := ""
	for _, it := range b {
		key, ok := it.key.(string)
		if !ok {
			continue
		}
		out.WriteString(comma)
		comma = ","
		if err := writeJSON(out, key); err != nil {
			return err
		}
		out.WriteByte(':')
		if err := writeJSON(out, it.value); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func writeArray(out *bytes.Buffer, l list) error {
	out.WriteByte('[')
	comma := ""
	for _, e := range l {
		if _, ok := e.value.(comment); ok {
			continue
		}
		out.WriteString(comma)
		comma = ","
		if err := writeJSON(out, e.value); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}
