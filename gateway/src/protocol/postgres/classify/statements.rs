//! What each kind of statement does.
//!
//! Decisions worth knowing, where PostgreSQL's words do not settle the effect:
//! - `SELECT … FOR UPDATE` and its like write (row locks keep writers out); `LOCK TABLE` beyond `ROW SHARE` is `admin`.
//! - Every `DROP` is `schema` and `delete`. A temporary table is a table: its name can stand in front of a real one.
//! - `CREATE VIEW`, `CREATE RULE` and SQL-bodied functions carry the effects of what they will do, since the statement
//!   that sets them off later does not show it; a function's body given as text is `schema` and seen when called.
//! - `PREPARE` is `session`: the statement is decided when it is executed. `DECLARE` is decided at once.
//! - `EXPLAIN` reads; `EXPLAIN ANALYZE` does all that its statement does.
//! - `NOTIFY` is `transfer` (its payload reaches other sessions), `LISTEN` is `session`.
//! - `REFRESH MATERIALIZED VIEW` runs a stored query: `write` and `execute`.

use std::{collections::BTreeMap, mem, sync::Arc};

use pg_query::{NodeEnum, protobuf as pb};

use super::{
    CopyFormat, Sense, Statement,
    tree::{Branch, Visit},
    walk::{Walk, literal, strings},
};
use crate::operation::Effect;

use Effect::{Admin, Delete, Execute, Privilege, Read, Schema, Session, Transfer, Write};

/// Walks one statement of a text as its outermost: the word for its kind, and what the tracker must know.
pub(super) fn outermost(statement: &pb::RawStmt, walk: &mut Walk) -> (String, Statement) {
    let pb::RawStmt { stmt, stmt_location: _, stmt_len: _ } = statement;
    let Some(node) = stmt.as_ref().and_then(|node| node.node.as_ref()) else {
        walk.unseen("an empty statement");
        return ("unknown".to_owned(), Statement::Unread);
    };
    walk.outermost = returns_rows_as_they_are(node);
    node.visit(walk);
    walk.settle();
    let set: Vec<_> = mem::take(&mut walk.set_by_call);
    let tracked = walk.tracked.take().unwrap_or(match set.is_empty() {
        true => Statement::Other,
        false => Statement::MaySet { names: set },
    });
    (kind(node), tracked)
}

/// Statements whose rows carry the lineage of their outermost select list.
fn returns_rows_as_they_are(node: &NodeEnum) -> bool {
    use NodeEnum::{
        DeclareCursorStmt, DeleteStmt, ExplainStmt, InsertStmt, MergeStmt, PrepareStmt, SelectStmt, UpdateStmt,
    };
    matches!(
        node,
        SelectStmt(_)
            | InsertStmt(_)
            | UpdateStmt(_)
            | DeleteStmt(_)
            | MergeStmt(_)
            | PrepareStmt(_)
            | DeclareCursorStmt(_)
            | ExplainStmt(_)
    )
}

/// The word for a kind of statement, as `when` tests it: `select`, `insert`, `drop_table`, `alter_index`, …
fn kind(node: &NodeEnum) -> String {
    match node {
        NodeEnum::SelectStmt(select) if select.into_clause.is_some() => "select_into".to_owned(),
        NodeEnum::SelectStmt(_) => "select".to_owned(),
        NodeEnum::InsertStmt(_) => "insert".to_owned(),
        NodeEnum::UpdateStmt(_) => "update".to_owned(),
        NodeEnum::DeleteStmt(_) => "delete".to_owned(),
        NodeEnum::MergeStmt(_) => "merge".to_owned(),
        NodeEnum::DropStmt(drop) => format!("drop_{}", object_kind(drop.remove_type())),
        NodeEnum::AlterTableStmt(alter) => format!("alter_{}", object_kind(alter.objtype())),
        NodeEnum::RenameStmt(rename) => format!("alter_{}", object_kind(rename.rename_type())),
        NodeEnum::AlterOwnerStmt(alter) => format!("alter_{}", object_kind(alter.object_type())),
        NodeEnum::AlterObjectSchemaStmt(alter) => format!("alter_{}", object_kind(alter.object_type())),
        NodeEnum::DefineStmt(define) => format!("create_{}", object_kind(define.kind())),
        NodeEnum::GrantStmt(grant) => if grant.is_grant { "grant" } else { "revoke" }.to_owned(),
        NodeEnum::GrantRoleStmt(grant) => if grant.is_grant { "grant" } else { "revoke" }.to_owned(),
        NodeEnum::TransactionStmt(transaction) => transaction_word(transaction.kind()).to_owned(),
        NodeEnum::VacuumStmt(vacuum) => if vacuum.is_vacuumcmd { "vacuum" } else { "analyze" }.to_owned(),
        NodeEnum::CreateTableAsStmt(create) => match create.objtype() {
            pb::ObjectType::ObjectMatview => "create_materialized_view".to_owned(),
            _ => "create_table_as".to_owned(),
        },
        NodeEnum::CreateFunctionStmt(create) => {
            if create.is_procedure { "create_procedure" } else { "create_function" }.to_owned()
        }
        NodeEnum::VariableSetStmt(set) => match set.kind() {
            pb::VariableSetKind::VarReset | pb::VariableSetKind::VarResetAll => "reset".to_owned(),
            _ => "set".to_owned(),
        },
        other => word(other).unwrap_or("unknown").to_owned(),
    }
}

/// `OBJECT_FOREIGN_TABLE` → `foreign_table`.
fn object_kind(kind: pb::ObjectType) -> String {
    let name = kind.as_str_name();
    name.strip_prefix("OBJECT_").unwrap_or(name).to_ascii_lowercase()
}

fn transaction_word(kind: pb::TransactionStmtKind) -> &'static str {
    use pb::TransactionStmtKind as Kind;
    match kind {
        Kind::TransStmtBegin | Kind::TransStmtStart => "begin",
        Kind::TransStmtCommit => "commit",
        Kind::TransStmtRollback => "rollback",
        Kind::TransStmtSavepoint => "savepoint",
        Kind::TransStmtRelease => "release",
        Kind::TransStmtRollbackTo => "rollback_to",
        Kind::TransStmtPrepare => "prepare_transaction",
        Kind::TransStmtCommitPrepared => "commit_prepared",
        Kind::TransStmtRollbackPrepared => "rollback_prepared",
        Kind::Undefined => "unknown",
    }
}

macro_rules! words {
    ($($variant:ident $word:literal)*) => {
        fn word(node: &NodeEnum) -> Option<&'static str> {
            match node {
                $(NodeEnum::$variant(_) => Some($word),)*
                _ => None,
            }
        }
    };
}

words! {
    CreateSchemaStmt "create_schema" ReplicaIdentityStmt "alter_table" AlterCollationStmt "alter_collation"
    AlterDomainStmt "alter_domain" AlterDefaultPrivilegesStmt "alter_default_privileges" CopyStmt "copy"
    VariableShowStmt "show" CreateStmt "create_table" CreateTableSpaceStmt "create_tablespace"
    DropTableSpaceStmt "drop_tablespace" AlterTableSpaceOptionsStmt "alter_tablespace" AlterTableMoveAllStmt "alter_table"
    CreateExtensionStmt "create_extension" AlterExtensionStmt "alter_extension" AlterExtensionContentsStmt "alter_extension"
    CreateFdwStmt "create_foreign_data_wrapper" AlterFdwStmt "alter_foreign_data_wrapper"
    CreateForeignServerStmt "create_server" AlterForeignServerStmt "alter_server" CreateForeignTableStmt "create_foreign_table"
    CreateUserMappingStmt "create_user_mapping" AlterUserMappingStmt "alter_user_mapping" DropUserMappingStmt "drop_user_mapping"
    ImportForeignSchemaStmt "import_foreign_schema" CreatePolicyStmt "create_policy" AlterPolicyStmt "alter_policy"
    CreateAmStmt "create_access_method" CreateTrigStmt "create_trigger" CreateEventTrigStmt "create_event_trigger"
    AlterEventTrigStmt "alter_event_trigger" CreatePlangStmt "create_language" CreateRoleStmt "create_role"
    AlterRoleStmt "alter_role" AlterRoleSetStmt "alter_role" DropRoleStmt "drop_role" CreateSeqStmt "create_sequence"
    AlterSeqStmt "alter_sequence" CreateDomainStmt "create_domain" CreateOpClassStmt "create_operator_class"
    CreateOpFamilyStmt "create_operator_family" AlterOpFamilyStmt "alter_operator_family" TruncateStmt "truncate"
    CommentStmt "comment" SecLabelStmt "security_label" DeclareCursorStmt "declare" ClosePortalStmt "close" FetchStmt "fetch"
    IndexStmt "create_index" CreateStatsStmt "create_statistics" AlterStatsStmt "alter_statistics"
    AlterFunctionStmt "alter_function" DoStmt "do" CallStmt "call" AlterObjectDependsStmt "alter_depends"
    AlterOperatorStmt "alter_operator" AlterTypeStmt "alter_type" RuleStmt "create_rule" NotifyStmt "notify"
    ListenStmt "listen" UnlistenStmt "unlisten" CompositeTypeStmt "create_type" CreateEnumStmt "create_type"
    CreateRangeStmt "create_type" AlterEnumStmt "alter_type" ViewStmt "create_view" LoadStmt "load"
    CreatedbStmt "create_database" AlterDatabaseStmt "alter_database" AlterDatabaseRefreshCollStmt "alter_database"
    AlterDatabaseSetStmt "alter_database" DropdbStmt "drop_database" AlterSystemStmt "alter_system" ClusterStmt "cluster"
    ExplainStmt "explain" RefreshMatViewStmt "refresh_materialized_view" CheckPointStmt "checkpoint" DiscardStmt "discard"
    LockStmt "lock" ConstraintsSetStmt "set_constraints" ReindexStmt "reindex" CreateConversionStmt "create_conversion"
    CreateCastStmt "create_cast" CreateTransformStmt "create_transform" PrepareStmt "prepare" ExecuteStmt "execute"
    DeallocateStmt "deallocate" DropOwnedStmt "drop_owned" ReassignOwnedStmt "reassign_owned"
    AlterTsdictionaryStmt "alter_text_search_dictionary" AlterTsconfigurationStmt "alter_text_search_configuration"
    CreatePublicationStmt "create_publication" AlterPublicationStmt "alter_publication"
    CreateSubscriptionStmt "create_subscription" AlterSubscriptionStmt "alter_subscription"
    DropSubscriptionStmt "drop_subscription"
}

macro_rules! simple {
    ($($kind:ident [$($effect:ident),*])*) => {
        $(impl Visit for pb::$kind {
            fn visit(&self, walk: &mut Walk) {
                walk.add_all(&[$($effect),*]);
                self.children(walk);
            }
        })*
    };
}

// Statements whose effects do not depend on what is in them; expressions below still add theirs.
// What computes an index anew runs the functions in it, which are whatever somebody put there.
simple! {
    ReplicaIdentityStmt [Schema]
    AlterCollationStmt [Schema]
    AlterDomainStmt [Schema]
    AlterRoleStmt [Privilege]
    DropRoleStmt [Privilege]
    GrantStmt [Privilege]
    GrantRoleStmt [Privilege]
    AlterDefaultPrivilegesStmt [Privilege]
    VariableShowStmt [Read]
    CreateStmt [Schema]
    AlterTableMoveAllStmt [Schema, Admin]
    CreateForeignTableStmt [Schema, Transfer]
    CreatePolicyStmt [Schema, Privilege]
    AlterPolicyStmt [Schema, Privilege]
    CreateSeqStmt [Schema]
    AlterSeqStmt [Schema]
    CreateDomainStmt [Schema]
    CreateOpClassStmt [Schema]
    CreateOpFamilyStmt [Schema]
    AlterOpFamilyStmt [Schema]
    CommentStmt [Schema]
    SecLabelStmt [Privilege]
    IndexStmt [Schema]
    CreateStatsStmt [Schema]
    AlterStatsStmt [Schema]
    AlterObjectDependsStmt [Schema]
    AlterObjectSchemaStmt [Schema]
    AlterOwnerStmt [Schema, Privilege]
    AlterOperatorStmt [Schema]
    AlterTypeStmt [Schema]
    RuleStmt [Schema]
    ViewStmt [Schema]
    CompositeTypeStmt [Schema]
    CreateEnumStmt [Schema]
    CreateRangeStmt [Schema]
    AlterEnumStmt [Schema]
    AlterDatabaseRefreshCollStmt [Schema, Admin]
    ClusterStmt [Admin, Execute]
    RefreshMatViewStmt [Write, Execute]
    CheckPointStmt [Admin]
    ConstraintsSetStmt [Session]
    ReindexStmt [Admin, Execute]
    CreateConversionStmt [Schema]
    CreateCastStmt [Schema]
    CreateTransformStmt [Schema]
    DropOwnedStmt [Schema, Delete, Privilege]
    ReassignOwnedStmt [Schema, Privilege]
    AlterTsDictionaryStmt [Schema]
    AlterTsConfigurationStmt [Schema]
}

macro_rules! named {
    ($($kind:ident . $name:ident $object:literal [$($effect:ident),*])*) => {
        $(impl Visit for pb::$kind {
            fn visit(&self, walk: &mut Walk) {
                walk.add_all(&[$($effect),*]);
                if !self.$name.is_empty() {
                    walk.object($object, None, self.$name.clone());
                }
                self.children(walk);
            }
        })*
    };
}

// The same, with the name of the thing.
named! {
    CreateTableSpaceStmt.tablespacename "tablespace" [Schema, Admin]
    DropTableSpaceStmt.tablespacename "tablespace" [Schema, Delete, Admin]
    AlterTableSpaceOptionsStmt.tablespacename "tablespace" [Admin]
    CreateExtensionStmt.extname "extension" [Schema, Execute, Admin]
    AlterExtensionStmt.extname "extension" [Schema, Execute, Admin]
    AlterExtensionContentsStmt.extname "extension" [Schema, Admin]
    CreateFdwStmt.fdwname "foreign_data_wrapper" [Transfer, Admin]
    AlterFdwStmt.fdwname "foreign_data_wrapper" [Transfer, Admin]
    CreateForeignServerStmt.servername "server" [Transfer, Admin]
    AlterForeignServerStmt.servername "server" [Transfer, Admin]
    CreateUserMappingStmt.servername "server" [Privilege, Transfer]
    AlterUserMappingStmt.servername "server" [Privilege, Transfer]
    DropUserMappingStmt.servername "server" [Privilege, Transfer]
    ImportForeignSchemaStmt.server_name "server" [Schema, Transfer]
    CreateAmStmt.amname "access_method" [Schema, Execute, Admin]
    CreateTrigStmt.trigname "trigger" [Schema]
    CreateEventTrigStmt.trigname "event_trigger" [Schema, Admin]
    AlterEventTrigStmt.trigname "event_trigger" [Schema, Admin]
    CreatePLangStmt.plname "language" [Schema, Execute, Admin]
    CreateRoleStmt.role "role" [Privilege]
    NotifyStmt.conditionname "channel" [Transfer]
    ListenStmt.conditionname "channel" [Session]
    UnlistenStmt.conditionname "channel" [Session]
    LoadStmt.filename "file" [Execute, Admin]
    CreatedbStmt.dbname "database" [Schema, Admin]
    AlterDatabaseStmt.dbname "database" [Schema, Admin]
    DropdbStmt.dbname "database" [Schema, Delete, Admin]
    CreatePublicationStmt.pubname "publication" [Transfer, Admin]
    AlterPublicationStmt.pubname "publication" [Transfer, Admin]
    CreateSubscriptionStmt.subname "subscription" [Transfer, Admin]
    AlterSubscriptionStmt.subname "subscription" [Transfer, Admin]
    DropSubscriptionStmt.subname "subscription" [Transfer, Admin]
}

impl Visit for pb::TruncateStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Effect::Delete);
        walk.cascades |= self.behavior() == pb::DropBehavior::DropCascade;
        self.children(walk);
    }
}

impl Visit for pb::CreateSchemaStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        if self.authrole.is_some() {
            walk.add(Privilege);
        }
        walk.object("schema", None, self.schemaname.clone());
        self.children(walk);
    }
}

impl Visit for pb::RenameStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        if matches!(self.rename_type(), pb::ObjectType::ObjectRole | pb::ObjectType::ObjectPolicy) {
            // Whoever logs in by the new name is somebody else than before.
            walk.add(Privilege);
        }
        self.children(walk);
    }
}

impl Visit for pb::VacuumStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Admin);
        let computes = |option: &pb::Node| match &option.node {
            Some(NodeEnum::DefElem(option)) => matches!(option.defname.as_str(), "analyze" | "full"),
            _ => true,
        };
        if !self.is_vacuumcmd || self.options.iter().any(computes) {
            walk.add(Execute);
        }
        self.children(walk);
    }
}

impl Visit for pb::AlterTableStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        self.children(walk);
    }
}

impl Visit for pb::AlterTableCmd {
    fn visit(&self, walk: &mut Walk) {
        use pb::AlterTableType as Change;
        match self.subtype() {
            Change::AtDropColumn | Change::AtDetachPartition | Change::AtDetachPartitionFinalize => walk.add(Delete),
            Change::AtAlterColumnType | Change::AtSetExpression => walk.add(Write),
            // Options of a foreign table say where it is.
            Change::AtGenericOptions | Change::AtAlterColumnGenericOptions => walk.add(Transfer),
            Change::AtChangeOwner
            | Change::AtEnableRowSecurity
            | Change::AtDisableRowSecurity
            | Change::AtForceRowSecurity
            | Change::AtNoForceRowSecurity => walk.add(Privilege),
            // What guards the data, or copies it elsewhere, stops or starts running.
            Change::AtEnableTrig
            | Change::AtEnableAlwaysTrig
            | Change::AtEnableReplicaTrig
            | Change::AtDisableTrig
            | Change::AtEnableTrigAll
            | Change::AtDisableTrigAll
            | Change::AtEnableTrigUser
            | Change::AtDisableTrigUser
            | Change::AtEnableRule
            | Change::AtEnableAlwaysRule
            | Change::AtEnableReplicaRule
            | Change::AtDisableRule => walk.add(Admin),
            _ => {}
        }
        self.children(walk);
    }
}

impl Visit for pb::AlterRoleSetStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Privilege);
        let pb::AlterRoleSetStmt { role, database, setstmt } = self;
        role.visit(walk);
        if !database.is_empty() {
            walk.object("database", None, database.clone());
        }
        stored_setting(setstmt, walk);
    }
}

impl Visit for pb::AlterDatabaseSetStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add_all(&[Schema, Admin]);
        let pb::AlterDatabaseSetStmt { dbname, setstmt } = self;
        walk.object("database", None, dbname.clone());
        stored_setting(setstmt, walk);
    }
}

impl Visit for pb::AlterSystemStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::AlterSystemStmt { setstmt } = self;
        walk.add(Admin);
        stored_setting(setstmt, walk);
    }
}

/// A setting for sessions to come: this session's state does not change.
fn stored_setting(set: &Option<pb::VariableSetStmt>, walk: &mut Walk) {
    if let Some(set) = set {
        if !set.name.is_empty() {
            walk.object("setting", None, set.name.to_ascii_lowercase());
        }
        set.args.visit(walk);
    }
}

impl Visit for pb::DefineStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        self.children(walk);
    }
}

impl Visit for pb::DropStmt {
    fn visit(&self, walk: &mut Walk) {
        use pb::ObjectType as Kind;
        walk.add_all(&[Schema, Delete]);
        match self.remove_type() {
            Kind::ObjectPolicy => walk.add(Privilege),
            Kind::ObjectExtension
            | Kind::ObjectFdw
            | Kind::ObjectForeignServer
            | Kind::ObjectEventTrigger
            | Kind::ObjectAccessMethod
            | Kind::ObjectPublication
            | Kind::ObjectLanguage => walk.add(Admin),
            _ => {}
        }
        self.objects.iter().for_each(|object| dropped(self.remove_type(), object, walk));
        self.children(walk);
    }
}

/// Names what is dropped; relations of every kind are tables to policy.
fn dropped(kind: pb::ObjectType, object: &pb::Node, walk: &mut Walk) {
    use pb::ObjectType as Kind;
    let parts: Vec<&str> = match &object.node {
        Some(NodeEnum::List(list)) => strings(&list.items),
        Some(NodeEnum::ObjectWithArgs(function)) => strings(&function.objname),
        Some(NodeEnum::TypeName(name)) => strings(&name.names),
        Some(NodeEnum::String(name)) => vec![&name.sval],
        _ => return,
    };
    // A trigger, rule or policy is the last part of its table's name.
    let on_table = matches!(kind, Kind::ObjectTrigger | Kind::ObjectRule | Kind::ObjectPolicy);
    let (parts, member) = match parts.split_last() {
        Some((member, table)) if on_table => (table.to_vec(), Some(*member)),
        _ => (parts, None),
    };
    let Some((name, qualifiers)) = parts.split_last() else { return };
    let schema = qualifiers.last().copied();
    match kind {
        Kind::ObjectTable
        | Kind::ObjectView
        | Kind::ObjectMatview
        | Kind::ObjectForeignTable
        | Kind::ObjectTrigger
        | Kind::ObjectRule
        | Kind::ObjectPolicy => walk.table(schema.unwrap_or_default(), name),
        Kind::ObjectFunction | Kind::ObjectProcedure | Kind::ObjectRoutine | Kind::ObjectAggregate => {
            walk.object("function", schema, *name);
        }
        Kind::ObjectIndex => walk.object("index", schema, *name),
        Kind::ObjectSequence => walk.object("sequence", schema, *name),
        Kind::ObjectSchema => walk.object("schema", None, *name),
        Kind::ObjectExtension => walk.object("extension", None, *name),
        Kind::ObjectForeignServer => walk.object("server", None, *name),
        Kind::ObjectPublication => walk.object("publication", None, *name),
        Kind::ObjectType | Kind::ObjectDomain => walk.object("type", schema, *name),
        _ => walk.object("other", schema, *name),
    }
    if let Some(member) = member {
        walk.object("rule", schema, member);
    }
}

impl Visit for pb::CreateFunctionStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        function_object(&strings(&self.funcname), walk);
        for option in options(&self.options) {
            match option.defname.as_str() {
                "security" => walk.add(Privilege),
                "language" if argument(option).is_some_and(loads_code) => walk.add_all(&[Execute, Admin]),
                _ => {}
            }
        }
        self.children(walk);
    }
}

/// Languages whose functions are machine code from a file, or part of the server itself.
fn loads_code(language: &str) -> bool {
    matches!(language.to_ascii_lowercase().as_str(), "c" | "internal")
}

fn function_object(name: &[&str], walk: &mut Walk) {
    if let Some((name, schema)) = name.split_last() {
        walk.object("function", schema.last().copied(), *name);
    }
}

impl Visit for pb::AlterFunctionStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Schema);
        if let Some(function) = &self.func {
            function_object(&strings(&function.objname), walk);
        }
        if options(&self.actions).any(|action| matches!(action.defname.as_str(), "security" | "set" | "leakproof")) {
            walk.add(Privilege);
        }
        // `SET x` here is stored with the function, as in ALTER ROLE.
        let tracked = walk.tracked.take();
        self.children(walk);
        walk.tracked = tracked;
    }
}

impl Visit for pb::DoStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Execute);
        walk.unknown("runs a DO block, which this gateway cannot see through");
        self.children(walk);
    }
}

impl Visit for pb::CallStmt {
    fn visit(&self, walk: &mut Walk) {
        if self.funccall.is_none() {
            walk.unseen("a CALL without a procedure");
        }
        self.children(walk);
        if let Some(call) = &self.funccall {
            // Also one that is called like a built-in function.
            walk.opaque_call(&strings(&call.funcname));
        }
    }
}

impl Visit for pb::CopyStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::CopyStmt { relation, query, attlist, is_from, is_program, filename, options: _, where_clause } = self;
        walk.add(Transfer);
        walk.add(if *is_from { Write } else { Read });
        if *is_program {
            walk.add_all(&[Execute, Admin]);
            walk.object("program", None, filename.clone());
        } else if !filename.is_empty() {
            walk.add(Admin);
            walk.object("file", None, filename.clone());
        }
        walk.references.columns.extend(strings(attlist).into_iter().map(str::to_owned));
        match is_from {
            true => walk.target(relation),
            false => walk.reading(|walk| relation.visit(walk)),
        }
        query.visit(walk);
        where_clause.visit(walk);
        self.options.visit(walk);
        walk.tracked = Some(self.tracked());
    }
}

trait Tracked {
    fn tracked(&self) -> Statement;
}

impl Tracked for pb::CopyStmt {
    fn tracked(&self) -> Statement {
        let client = self.filename.is_empty() && !self.is_program;
        let name = |relation: &pb::RangeVar| {
            ((!relation.schemaname.is_empty()).then(|| relation.schemaname.clone()), relation.relname.clone())
        };
        let options: BTreeMap<String, String> = options(&self.options)
            .map(|option| (option.defname.clone(), argument(option).unwrap_or_default().to_owned()))
            .collect();
        let format = match options.get("format").map(|format| format.to_ascii_lowercase()).as_deref() {
            None | Some("text") => CopyFormat::Text,
            Some("csv") => CopyFormat::Csv,
            Some("binary") => CopyFormat::Binary,
            Some(_) => CopyFormat::Other,
        };
        Statement::Copy {
            to_stdout: client && !self.is_from,
            from_stdin: client && self.is_from,
            relation: self.relation.as_ref().map(name),
            columns: strings(&self.attlist).into_iter().map(str::to_owned).collect(),
            query: self.query.is_some(),
            format,
            options,
        }
    }
}

/// The options of a list of `DefElem`s.
fn options(list: &[pb::Node]) -> impl Iterator<Item = &pb::DefElem> {
    list.iter().filter_map(|node| match &node.node {
        Some(NodeEnum::DefElem(option)) => Some(&**option),
        _ => None,
    })
}

/// An option's value as text. A bare option has none.
fn argument(option: &pb::DefElem) -> Option<&str> {
    match option.arg.as_ref()?.node.as_ref()? {
        NodeEnum::String(text) => Some(&text.sval),
        NodeEnum::Boolean(pb::Boolean { boolval: true }) => Some("true"),
        NodeEnum::Boolean(pb::Boolean { boolval: false }) => Some("false"),
        NodeEnum::TypeName(name) => strings(&name.names).last().copied(),
        NodeEnum::Integer(pb::Integer { ival: 0 }) => Some("0"),
        NodeEnum::Integer(pb::Integer { ival: 1 }) => Some("1"),
        _ => None,
    }
}

impl Visit for pb::VariableSetStmt {
    fn visit(&self, walk: &mut Walk) {
        use pb::VariableSetKind as Kind;
        walk.add(Session);
        match self.kind() {
            Kind::VarResetAll => walk.tracked = Some(Statement::ResetAll),
            Kind::VarSetValue | Kind::VarSetDefault | Kind::VarSetCurrent | Kind::VarSetMulti | Kind::VarReset => {
                walk.setting(&self.name);
                walk.tracked = Some(self.tracked());
            }
            Kind::Undefined => walk.unseen("a SET of an unknown kind"),
        }
        self.children(walk);
    }
}

impl Tracked for pb::VariableSetStmt {
    fn tracked(&self) -> Statement {
        let name = self.name.to_ascii_lowercase();
        let value = matches!(self.kind(), pb::VariableSetKind::VarSetValue).then(|| values(&self.args)).flatten();
        let reset = matches!(self.kind(), pb::VariableSetKind::VarReset);
        match name.as_str() {
            "role" => {
                Statement::SetRole { role: value.filter(|role| role != "none"), session: false, local: self.is_local }
            }
            "session_authorization" => Statement::SetRole { role: value, session: true, local: self.is_local },
            _ if reset => Statement::Reset { name },
            _ => Statement::Set { name, value, local: self.is_local },
        }
    }
}

/// A setting's value as text, list items joined by `, `; `None` where one is not a literal.
fn values(arguments: &[pb::Node]) -> Option<String> {
    let values: Option<Vec<String>> = arguments.iter().map(value).collect();
    values.map(|values| values.join(", "))
}

fn value(node: &pb::Node) -> Option<String> {
    if let Some(text) = literal(node) {
        return Some(text.to_owned());
    }
    let Some(NodeEnum::AConst(constant)) = &node.node else { return None };
    match constant.val.as_ref()? {
        pb::a_const::Val::Ival(number) => Some(number.ival.to_string()),
        pb::a_const::Val::Fval(number) => Some(number.fval.clone()),
        pb::a_const::Val::Boolval(truth) => Some(truth.boolval.to_string()),
        pb::a_const::Val::Sval(_) | pb::a_const::Val::Bsval(_) => None,
    }
}

impl Visit for pb::TransactionStmt {
    fn visit(&self, walk: &mut Walk) {
        use pb::TransactionStmtKind as Kind;
        walk.add(Session);
        walk.tracked = match self.kind() {
            Kind::TransStmtBegin | Kind::TransStmtStart => Some(Statement::Begin),
            Kind::TransStmtCommit => Some(Statement::Commit { chain: self.chain }),
            Kind::TransStmtRollback => Some(Statement::Rollback { chain: self.chain }),
            Kind::TransStmtSavepoint => Some(Statement::Savepoint { name: self.savepoint_name.clone() }),
            Kind::TransStmtRelease => Some(Statement::Release { name: self.savepoint_name.clone() }),
            Kind::TransStmtRollbackTo => Some(Statement::RollbackTo { name: self.savepoint_name.clone() }),
            Kind::TransStmtPrepare => {
                walk.add(Admin);
                Some(Statement::PrepareTransaction)
            }
            // Another session's transaction ends: what it did is not in this one's record.
            Kind::TransStmtCommitPrepared | Kind::TransStmtRollbackPrepared => {
                walk.add(Admin);
                None
            }
            Kind::Undefined => {
                walk.unseen("a transaction statement of an unknown kind");
                None
            }
        };
        self.children(walk);
    }
}

impl Visit for pb::DiscardStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Session);
        if matches!(self.target(), pb::DiscardMode::DiscardAll) {
            walk.tracked = Some(Statement::DiscardAll);
        }
        self.children(walk);
    }
}

impl Visit for pb::LockStmt {
    fn visit(&self, walk: &mut Walk) {
        const ROW_SHARE: i32 = 2;
        walk.add(Session);
        if self.mode > ROW_SHARE {
            walk.add(Admin);
        }
        let reading = mem::replace(&mut walk.reading, true);
        self.children(walk);
        walk.reading = reading;
    }
}

impl Visit for pb::ExplainStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Read);
        self.options.visit(walk);
        if options(&self.options).any(analyzes) {
            self.query.visit(walk);
            return;
        }
        let mut inner = walk.apart(|inner| self.query.visit(inner));
        walk.plan(&inner);
        walk.tracked = inner.tracked.take();
    }
}

/// Whether this option makes `EXPLAIN` run the statement. What is not plainly false is true.
fn analyzes(option: &pb::DefElem) -> bool {
    let off =
        argument(option).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "0"));
    option.defname == "analyze" && !off
}

impl Visit for pb::CreateTableAsStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add_all(&[Schema, Write]);
        self.children(walk);
    }
}

impl Visit for pb::PrepareStmt {
    fn visit(&self, walk: &mut Walk) {
        let pb::PrepareStmt { name, argtypes, query } = self;
        walk.add(Session);
        walk.object("statement", None, name.clone());
        argtypes.visit(walk);
        let inner = walk.apart(|inner| query.visit(inner));
        walk.touch(&inner);
        walk.tracked = Some(Statement::Prepare { name: name.clone(), sense: alone(&inner, query) });
    }
}

impl Visit for pb::ExecuteStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.deferred
            .insert(format!("executes the prepared statement {}, which this gateway did not see prepared", self.name));
        walk.object("statement", None, self.name.clone());
        walk.tracked = Some(Statement::Execute { name: self.name.clone() });
        self.children(walk);
    }
}

impl Visit for pb::DeallocateStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Session);
        walk.tracked = Some(Statement::Deallocate { name: (!self.isall).then(|| self.name.clone()) });
        self.children(walk);
    }
}

impl Visit for pb::DeclareCursorStmt {
    fn visit(&self, walk: &mut Walk) {
        /// `CURSOR_OPT_HOLD` of `parsenodes.h`.
        const HOLD: i32 = 0x20;
        let pb::DeclareCursorStmt { portalname, options, query } = self;
        walk.add(Session);
        walk.object("cursor", None, portalname.clone());
        let inner = walk.apart(|inner| query.visit(inner));
        walk.take(&inner);
        walk.tracked = Some(Statement::DeclareCursor {
            name: portalname.clone(),
            sense: alone(&inner, query),
            holds: options & HOLD != 0,
        });
    }
}

/// The meaning of a statement inside another.
fn alone(inner: &Walk, query: &Option<Box<pb::Node>>) -> Arc<Sense> {
    let kinds: Vec<String> = query.iter().filter_map(|query| query.node.as_ref()).map(kind).collect();
    Arc::new(inner.sense(&kinds))
}

impl Visit for pb::FetchStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.deferred
            .insert(format!("fetches from the cursor {}, which this gateway did not see declared", self.portalname));
        walk.object("cursor", None, self.portalname.clone());
        walk.tracked = Some(Statement::Fetch { cursor: self.portalname.clone() });
        self.children(walk);
    }
}

impl Visit for pb::ClosePortalStmt {
    fn visit(&self, walk: &mut Walk) {
        walk.add(Session);
        walk.tracked =
            Some(Statement::CloseCursor { name: (!self.portalname.is_empty()).then(|| self.portalname.clone()) });
        self.children(walk);
    }
}
