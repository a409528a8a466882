// Command app is what the containers of the tests run.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	arg := func(i int) string {
		if len(os.Args) > i {
			return os.Args[i]
		}
		return ""
	}
	switch arg(1) {
	case "serve":
		go func() {
			err := http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintln(w, os.Getenv("ANSWER"))
			}))
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}()
		fmt.Println("serving", os.Getenv("ANSWER"))
		<-stop
	case "sleep":
		fmt.Println("sleeping")
		<-stop
	case "signals": // says by which it was stopped
		signal.Notify(stop, syscall.SIGUSR2)
		fmt.Println("stopped by", <-stop)
	case "stubborn": // does not stop when asked
		<-stop
		time.Sleep(time.Hour)
	case "exit":
		code, _ := strconv.Atoi(arg(2))
		fmt.Println("out: leaving with", code)
		fmt.Fprintln(os.Stderr, "err: leaving with", code)
		os.Exit(code)
	case "say":
		dir, _ := os.Getwd()
		fmt.Println("answer", os.Getenv("ANSWER"), "in", dir, "as", os.Getuid())
	case "has": // for health checks: does a file exist
		if _, err := os.Stat(arg(2)); err != nil {
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown mode", arg(1))
		os.Exit(2)
	}
}
