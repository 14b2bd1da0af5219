// Posts updates through java.net.http.HttpClient and prints what came back, as JSON.
//
// Arguments: host, port, certificate, path, secret token, version (HTTP_2 or HTTP_1_1), first id.
// Twenty updates one after the other, every fifth of them chunked and every fifth with Expect, then
// twenty at once.

import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Post {
    static String uri;
    static String secret;

    static byte[] body(int id) {
        return ("{\"update_id\":" + id + ",\"message\":{\"message_id\":1,\"date\":1700000000,"
            + "\"chat\":{\"id\":" + id % 7 + "},\"text\":\"\u0416\u0443\u043a\"}}")
            .getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    static HttpRequest request(int id) {
        byte[] body = body(id);
        HttpRequest.BodyPublisher publisher = id % 5 == 0
            // Of unknown length.
            ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
            : HttpRequest.BodyPublishers.ofByteArray(body);
        return HttpRequest.newBuilder(URI.create(uri))
            .header("Content-Type", "application/json")
            .header("X-Telegram-Bot-Api-Secret-Token", secret)
            .timeout(Duration.ofSeconds(30))
            .expectContinue(id % 5 == 1)
            .POST(publisher)
            .build();
    }

    public static void main(String[] args) throws Exception {
        uri = "https://" + args[0] + ":" + args[1] + args[3];
        secret = args[4];
        int first = Integer.parseInt(args[6]);
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream file = new FileInputStream(args[2])) {
            CertificateFactory factory = CertificateFactory.getInstance("X.509");
            store.setCertificateEntry("test", factory.generateCertificate(file));
        }
        TrustManagerFactory trust =
            TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        HttpClient client = HttpClient.newBuilder()
            .sslContext(context)
            .version(HttpClient.Version.valueOf(args[5]))
            .connectTimeout(Duration.ofSeconds(30))
            .build();

        List<Integer> statuses = new ArrayList<>();
        Set<String> versions = new TreeSet<>();
        for (int id = first; id < first + 20; id++) {
            HttpResponse<Void> response =
                client.send(request(id), HttpResponse.BodyHandlers.discarding());
            statuses.add(response.statusCode());
            versions.add("\"" + response.version() + "\"");
        }
        List<CompletableFuture<HttpResponse<Void>>> pending = new ArrayList<>();
        for (int id = first + 20; id < first + 40; id++) {
            pending.add(client.sendAsync(request(id), HttpResponse.BodyHandlers.discarding()));
        }
        for (CompletableFuture<HttpResponse<Void>> future : pending) {
            HttpResponse<Void> response = future.get();
            statuses.add(response.statusCode());
            versions.add("\"" + response.version() + "\"");
        }
        System.out.println("{\"statuses\":" + statuses + ",\"versions\":" + versions + "}");
    }
}
