package core

import (
	"net"
	"syscall"
)

// peerUID is the user at the other end of a unix socket, as the kernel knows it.
func peerUID(conn net.Conn) (uid int, ok bool) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *syscall.Ucred
	failed := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if failed != nil || err != nil {
		return 0, false
	}
	return int(cred.Uid), true
}
