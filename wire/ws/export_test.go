package ws

import "net"

// NewServerConn is what Upgrade returns for an upgraded connection.
func NewServerConn(conn net.Conn) *ServerConn { return &ServerConn{conn: conn} }
