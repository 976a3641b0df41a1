// A function in Go, on the standard library alone.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			panic(err)
		}
		event, err := io.ReadAll(next.Body)
		next.Body.Close()
		if err != nil {
			panic(err)
		}
		var asked struct{ Name string }
		fmt.Println("greeting")
		answer, what := []byte(nil), "/response"
		if err := json.Unmarshal(event, &asked); err != nil {
			answer, what = []byte(`{"errorType":"BadEvent","errorMessage":"`+err.Error()+`"}`), "/error"
		} else {
			answer, _ = json.Marshal(map[string]string{"message": "Hello, " + asked.Name + "!"})
		}
		done, err := http.Post(api+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+what, "application/json", bytes.NewReader(answer))
		if err != nil || done.StatusCode != 202 {
			panic("the answer was refused")
		}
		io.Copy(io.Discard, done.Body)
		done.Body.Close()
	}
}
