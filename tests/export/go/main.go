// Renders templates as Ollama does: it gives them the messages, and the system turns joined.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }

type job struct {
	Template      string
	Conversations [][]message
}

func render(parsed *template.Template, said []message) string {
	var system []string
	for _, item := range said {
		if item.Role == "system" {
			system = append(system, item.Content)
		}
	}
	var prompt strings.Builder
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": said, "Response": ""}
	if err := parsed.Execute(&prompt, values); err != nil {
		panic(err)
	}
	return prompt.String()
}

func main() {
	var jobs []job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		panic(err)
	}
	prompts := [][]string{}
	for _, one := range jobs {
		parsed := template.Must(template.New("").Option("missingkey=zero").Parse(one.Template))
		made := []string{}
		for _, said := range one.Conversations {
			made = append(made, render(parsed, said))
		}
		prompts = append(prompts, made)
	}
	json.NewEncoder(os.Stdout).Encode(prompts)
}
