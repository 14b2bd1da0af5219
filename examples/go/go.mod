module ringhook.example/bot

go 1.19
