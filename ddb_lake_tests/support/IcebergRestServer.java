import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;
import org.apache.iceberg.CatalogProperties;
import org.apache.iceberg.Files;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.exceptions.AlreadyExistsException;
import org.apache.iceberg.exceptions.CommitFailedException;
import org.apache.iceberg.exceptions.NamespaceNotEmptyException;
import org.apache.iceberg.exceptions.NoSuchNamespaceException;
import org.apache.iceberg.exceptions.NoSuchTableException;
import org.apache.iceberg.exceptions.NotFoundException;
import org.apache.iceberg.exceptions.ValidationException;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.CatalogHandlers;
import org.apache.iceberg.rest.RESTSerializers;
import org.apache.iceberg.rest.RESTUtil;
import org.apache.iceberg.rest.requests.CreateNamespaceRequest;
import org.apache.iceberg.rest.requests.CreateTableRequest;
import org.apache.iceberg.rest.requests.RegisterTableRequest;
import org.apache.iceberg.rest.requests.RenameTableRequest;
import org.apache.iceberg.rest.requests.UpdateNamespacePropertiesRequest;
import org.apache.iceberg.rest.requests.UpdateTableRequest;
import org.apache.iceberg.rest.responses.ConfigResponse;
import org.apache.iceberg.rest.responses.ErrorResponse;
import org.apache.iceberg.shaded.com.fasterxml.jackson.annotation.JsonAutoDetect;
import org.apache.iceberg.shaded.com.fasterxml.jackson.annotation.PropertyAccessor;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.DeserializationFeature;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.iceberg.shaded.com.fasterxml.jackson.databind.PropertyNamingStrategies;

/**
 * An Iceberg REST catalog for tests: the server side of Iceberg's Java library, over its JDBC catalog in a database in memory.
 *
 * <p>Only the routing is written here. What a request means, and whether a commit conflicts, is decided by {@link CatalogHandlers} and
 * {@link JdbcCatalog}. The tables are below a local folder, the argument. The port is printed when it listens on 127.0.0.1.
 *
 * <p>Paths: https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml
 */
public final class IcebergRestServer {
  private static final ObjectMapper JSON = mapper();
  private final JdbcCatalog catalog = new JdbcCatalog(properties -> new LocalFiles(), null, true);

  public static void main(String[] arguments) throws IOException {
    var server = new IcebergRestServer();
    server.catalog.initialize(
        "tests",
        Map.of(
            CatalogProperties.URI, "jdbc:derby:memory:catalog;create=true",
            CatalogProperties.WAREHOUSE_LOCATION, "file://" + arguments[0]));
    var http = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    http.setExecutor(Executors.newFixedThreadPool(4));
    http.createContext("/", server::answer);
    http.start();
    System.out.println(http.getAddress().getPort());
  }

  private void answer(HttpExchange exchange) throws IOException {
    try (exchange) {
      Object result;
      int status = 200;
      try {
        result = respond(exchange);
      } catch (RuntimeException error) {
        status = status(error);
        result =
            ErrorResponse.builder()
                .responseCode(status)
                .withType(error.getClass().getSimpleName())
                .withMessage(String.valueOf(error.getMessage()))
                .build();
        if (status == 500) {
          error.printStackTrace();
        }
      }
      byte[] body = result == null ? new byte[0] : JSON.writeValueAsBytes(result);
      boolean isEmpty = result == null || exchange.getRequestMethod().equals("HEAD");
      exchange.getResponseHeaders().set("Content-Type", "application/json");
      exchange.sendResponseHeaders(result == null ? 204 : status, isEmpty ? -1 : body.length);
      if (!isEmpty) {
        try (OutputStream out = exchange.getResponseBody()) {
          out.write(body);
        }
      }
    }
  }

  /** The answer to a request; null for one without a body. */
  private Object respond(HttpExchange exchange) throws IOException {
    String[] path = exchange.getRequestURI().getRawPath().replaceFirst("^/v1/", "").split("/");
    Map<String, String> query = query(exchange.getRequestURI().getRawQuery());
    String method = exchange.getRequestMethod();
    String shape = method;
    for (int part = 0; part < path.length; part++) {
      boolean isName = part == 3 || (part == 1 && path[0].equals("namespaces"));
      shape += (part == 0 ? " " : "/") + (isName ? "*" : path[part]);
    }
    Namespace namespace = path[0].equals("namespaces") && path.length > 1 ? RESTUtil.decodeNamespace(path[1]) : Namespace.empty();
    TableIdentifier table = path.length > 3 ? TableIdentifier.of(namespace, RESTUtil.decodeString(path[3])) : null;
    switch (shape) {
      case "GET config":
        return ConfigResponse.builder().build();
      case "GET namespaces":
        return CatalogHandlers.listNamespaces(
            catalog, query.containsKey("parent") ? RESTUtil.decodeNamespace(query.get("parent")) : Namespace.empty());
      case "POST namespaces":
        return CatalogHandlers.createNamespace(catalog, body(exchange, CreateNamespaceRequest.class));
      case "GET namespaces/*":
        return CatalogHandlers.loadNamespace(catalog, namespace);
      case "HEAD namespaces/*":
        CatalogHandlers.namespaceExists(catalog, namespace);
        return null;
      case "DELETE namespaces/*":
        CatalogHandlers.dropNamespace(catalog, namespace);
        return null;
      case "POST namespaces/*/properties":
        return CatalogHandlers.updateNamespaceProperties(
            catalog, namespace, body(exchange, UpdateNamespacePropertiesRequest.class));
      case "GET namespaces/*/tables":
        return CatalogHandlers.listTables(catalog, namespace);
      case "POST namespaces/*/tables":
        var creation = body(exchange, CreateTableRequest.class);
        return creation.stageCreate()
            ? CatalogHandlers.stageTableCreate(catalog, namespace, creation)
            : CatalogHandlers.createTable(catalog, namespace, creation);
      case "POST namespaces/*/register":
        return CatalogHandlers.registerTable(catalog, namespace, body(exchange, RegisterTableRequest.class));
      case "GET namespaces/*/tables/*":
        return CatalogHandlers.loadTable(catalog, table);
      case "HEAD namespaces/*/tables/*":
        CatalogHandlers.tableExists(catalog, table);
        return null;
      case "POST namespaces/*/tables/*":
        return CatalogHandlers.updateTable(catalog, table, body(exchange, UpdateTableRequest.class));
      case "DELETE namespaces/*/tables/*":
        if (Boolean.parseBoolean(query.get("purgeRequested"))) {
          CatalogHandlers.purgeTable(catalog, table);
        } else {
          CatalogHandlers.dropTable(catalog, table);
        }
        return null;
      case "POST namespaces/*/tables/*/metrics":
        return null;
      case "POST tables/rename":
        CatalogHandlers.renameTable(catalog, body(exchange, RenameTableRequest.class));
        return null;
      default:
        throw new UnsupportedOperationException(shape);
    }
  }

  private static int status(RuntimeException error) {
    if (error instanceof NoSuchNamespaceException || error instanceof NoSuchTableException) {
      return 404;
    }
    if (error instanceof AlreadyExistsException
        || error instanceof CommitFailedException
        || error instanceof NamespaceNotEmptyException) {
      return 409;
    }
    if (error instanceof ValidationException || error instanceof IllegalArgumentException) {
      return 400;
    }
    return error instanceof UnsupportedOperationException ? 406 : 500;
  }

  private static <T> T body(HttpExchange exchange, Class<T> type) throws IOException {
    return JSON.readValue(exchange.getRequestBody().readAllBytes(), type);
  }

  private static Map<String, String> query(String text) {
    Map<String, String> found = new HashMap<>();
    for (String pair : text == null ? new String[0] : text.split("&")) {
      String[] parts = pair.split("=", 2);
      found.put(parts[0], parts.length > 1 ? RESTUtil.decodeString(parts[1]) : "");
    }
    return found;
  }

  /** A mapper with the settings that the names and types of the REST catalog need. */
  private static ObjectMapper mapper() {
    var mapper = new ObjectMapper();
    mapper.setVisibility(PropertyAccessor.FIELD, JsonAutoDetect.Visibility.ANY);
    mapper.configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
    mapper.setPropertyNamingStrategy(new PropertyNamingStrategies.KebabCaseStrategy());
    RESTSerializers.registerAll(mapper);
    return mapper;
  }

  /** Files of this machine, by their paths or as `file:` URIs. */
  public static final class LocalFiles implements FileIO {
    @Override
    public InputFile newInputFile(String location) {
      return Files.localInput(path(location));
    }

    @Override
    public OutputFile newOutputFile(String location) {
      File file = new File(path(location));
      file.getParentFile().mkdirs(); // by one of several requests: localOutput takes that of another for an error
      return Files.localOutput(file);
    }

    @Override
    public void deleteFile(String location) {
      if (!new File(path(location)).delete()) {
        throw new NotFoundException("No such file: %s", location);
      }
    }

    private static String path(String location) {
      return location.replaceFirst("^file:/+", "/");
    }
  }
}
