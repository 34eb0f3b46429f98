// A bot written for Java with pgjdbc, as anybody would write it. See ../drivers.rs for what it prints.
import java.io.StringReader;
import java.net.URI;
import java.sql.*;
import java.util.Properties;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

public class Client {
  static Object value(Connection connection, String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int at = 0; at < values.length; at++) statement.setObject(at + 1, values[at]);
      try (ResultSet rows = statement.executeQuery()) {
        rows.next();
        return rows.getObject(1);
      }
    }
  }

  static String state(Connection connection, String sql, Object... values) {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int at = 0; at < values.length; at++) statement.setObject(at + 1, values[at]);
      statement.execute();
      return "nothing";
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  public static void main(String[] words) throws Exception {
    URI url = URI.create(words[0]);
    String[] user = url.getUserInfo().split(":", 2);
    Properties properties = new Properties();
    properties.setProperty("user", user[0]);
    if (user.length > 1) properties.setProperty("password", user[1]);
    // A prepared statement is named from its second use on.
    properties.setProperty("prepareThreshold", "2");
    String where = "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath();
    if (url.getQuery() != null) where += "?" + url.getQuery();
    try (Connection connection = DriverManager.getConnection(where, properties)) {
      try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT 40 + 2")) {
        rows.next();
        System.out.println("simple " + rows.getInt(1));
      }
      try (PreparedStatement statement =
          connection.prepareStatement("SELECT ?::int8, ?::bool, ?::text, ?::text, ?::date")) {
        for (int round = 0; round < 6; round++) {
          statement.setLong(1, 7);
          statement.setBoolean(2, true);
          statement.setNull(3, Types.VARCHAR);
          statement.setString(4, "é'\"");
          statement.setDate(5, Date.valueOf("2026-11-23"));
          try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            if (round == 5)
              System.out.println("types " + rows.getLong(1) + " " + rows.getBoolean(2) + " "
                  + (rows.getString(3) == null) + " " + rows.getString(4) + " " + rows.getDate(5));
          }
        }
      }
      System.out.println("error " + state(connection, "SELECT 1 / ?::int", 0));
      connection.setAutoCommit(false);
      try (PreparedStatement insert = connection.prepareStatement("INSERT INTO target VALUES (?)")) {
        insert.setInt(1, 99);
        insert.addBatch();
        insert.setInt(1, 99);
        insert.addBatch();
        insert.executeBatch();
      }
      connection.rollback();
      System.out.println("rolled back " + value(connection, "SELECT count(*) FROM target WHERE id = 99"));
      // In a transaction and with a fetch size the driver uses portals.
      int count = 0;
      long sum = 0;
      try (PreparedStatement statement = connection.prepareStatement("SELECT n FROM generate_series(1, ?) n")) {
        statement.setInt(1, 20000);
        statement.setFetchSize(500);
        try (ResultSet rows = statement.executeQuery()) {
          while (rows.next()) {
            count++;
            sum += rows.getInt(1);
          }
        }
      }
      System.out.println("rows " + count + " " + sum);
      connection.commit();
      connection.setAutoCommit(true);
      long copied = connection.unwrap(PGConnection.class).getCopyAPI()
          .copyIn("COPY target FROM STDIN", new StringReader("501\n502\n"));
      state(connection, "UPDATE target SET id = -1 WHERE id > 500");
      System.out.println("copied " + copied);
      try (Statement statement = connection.createStatement()) {
        ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
        clock.schedule(() -> { statement.cancel(); return null; }, 300, TimeUnit.MILLISECONDS);
        try {
          statement.execute("SELECT pg_sleep(30)");
        } catch (SQLException error) {
          System.out.println("cancelled " + error.getSQLState());
        }
        clock.shutdown();
      }
      if (words.length > 1) {
        System.out.println("masked " + value(connection, "SELECT email FROM customers WHERE id = ?", 1));
        System.out.println("refused " + state(connection, "DROP TABLE orders"));
      }
      System.out.println("alive " + value(connection, "SELECT 42"));
    }
  }
}
