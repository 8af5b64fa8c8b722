// A server as small as can be: answers whoever connects to 127.0.0.1:8080, one after the other, and cares for nothing they say.
// With an argument it is a command that only ends.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
  (void)words;
  if (count > 1) return 0;
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  signal(SIGPIPE, SIG_IGN);
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (struct sockaddr *)&place, sizeof place) || listen(server, 128)) {
    perror("answer: 127.0.0.1:8080");
    return 1;
  }
  puts("listens");
  fflush(stdout);
  for (;;) {
    char asked[4096];
    int client = accept(server, NULL, NULL);
    if (client < 0) continue;
    // A probe of the port alone closes without a word.
    if (read(client, asked, sizeof asked) > 0 && write(client, answer, sizeof answer - 1) < 0) perror("answer");
    close(client);
  }
}
