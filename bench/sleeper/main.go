// Command sleeper is the program in the benchmark's containers: it only waits, so that
// what is measured is the engine and Varan, not the workload.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
}
