// Package selfimage makes a Docker image from a static binary, without a registry or a
// base image: the demo, the end-to-end tests and the benchmarks run containers that way.
package selfimage

import (
	"archive/tar"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/client"
)

// Path is where the binary lies in the image; it is also the entrypoint.
const Path = "/varan"

// ErrNotStatic says that a binary needs files that the image would not have.
var ErrNotStatic = errors.New("the binary is not a static Linux program")

// Import makes the image ref ("name:tag") of the binary.
func Import(ctx context.Context, docker *client.Client, binary, ref string) error {
	if err := checkStatic(binary); err != nil {
		return err
	}
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, binary)
		_ = writer.CloseWithError(err) // the reader sees err
		packed <- err
	}()
	result, err := docker.ImageImport(ctx,
		client.ImageImportSource{Source: reader, SourceName: "-"}, ref,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["` + Path + `"]`}, Message: "varan itself"})
	if err == nil {
		_, err = io.Copy(io.Discard, result)
		err = errors.Join(err, result.Close())
	}
	_ = reader.Close() // lets a packer that nobody reads end
	if packErr := <-packed; err == nil && packErr != nil {
		err = packErr
	}
	if err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	return nil
}

// checkStatic refuses a binary that asks for a dynamic loader.
func checkStatic(binary string) error {
	f, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStatic, err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%w: %s is linked dynamically", ErrNotStatic, binary)
		}
	}
	return nil
}

func pack(w io.Writer, binary string) error {
	f, err := os.Open(binary)
	if err != nil {
		return fmt.Errorf("open the binary: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the binary's size: %w", err)
	}
	tw := tar.NewWriter(w)
	for _, h := range []*tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: Path[1:], Typeflag: tar.TypeReg, Mode: 0o755, Size: info.Size()},
	} {
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("pack the binary: %w", err)
		}
	}
	if _, err := io.Copy(tw, f); err != nil {
		return fmt.Errorf("pack the binary: %w", err)
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("pack the binary: %w", err)
	}
	return nil
}
