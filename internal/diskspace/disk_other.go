//go:build !linux

package diskspace

import (
	"errors"
	"os"
)

func statfs(string) (Space, error) { return Space{}, errors.ErrUnsupported }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }
