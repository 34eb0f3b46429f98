//! The parse tree's shape, closed: every kind of node and every field of each, so that the walk cannot skip any.
//!
//! # Security
//! What the walk does not visit, policy does not see.
//! Two things make a gap fail to compile rather than pass: [`fields!`] takes each struct apart without `..`, so a field
//! that a newer parser adds is an error here, and the `match` over the node kinds has no wildcard.
//! Kinds that only PostgreSQL's later stages make (`Var`, `Query`, …) are an [`Unknown`](crate::operation::Effect::Unknown)
//! if they ever appear, and so is an empty place in the tree where the grammar leaves none.

use pg_query::{NodeEnum, protobuf as pb};

use super::walk::Walk;

/// A node that the walk can enter.
pub(super) trait Visit {
    /// Notes what this node means, and enters all that is below it.
    fn visit(&self, walk: &mut Walk);
}

/// A node taken apart.
pub(super) trait Branch {
    /// Visits every field, in order.
    fn children(&self, walk: &mut Walk);
}

impl Visit for pb::Node {
    fn visit(&self, walk: &mut Walk) {
        match &self.node {
            Some(node) => node.visit(walk),
            None => walk.unseen("an empty place in the parse tree"),
        }
    }
}

impl<T: Visit> Visit for Vec<T> {
    fn visit(&self, walk: &mut Walk) {
        self.iter().for_each(|item| item.visit(walk));
    }
}

impl<T: Visit> Visit for Option<T> {
    fn visit(&self, walk: &mut Walk) {
        self.iter().for_each(|item| item.visit(walk));
    }
}

impl<T: Visit> Visit for Box<T> {
    fn visit(&self, walk: &mut Walk) {
        (**self).visit(walk);
    }
}

macro_rules! leaves {
    ($($leaf:ty),* $(,)?) => {
        $(impl Visit for $leaf {
            fn visit(&self, _: &mut Walk) {}
        })*
    };
}

leaves! { bool, i32, i64, u32, u64, String, pb::a_const::Val }

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        impl Visit for NodeEnum {
            fn visit(&self, walk: &mut Walk) {
                match self {
                    $(NodeEnum::$kind(node) => node.visit(walk),)*
                }
            }
        }
    };
}

kinds! {
    Alias, RangeVar, TableFunc, IntoClause, Var, Param, Aggref, GroupingFunc, WindowFunc, WindowFuncRunCondition,
    MergeSupportFunc, SubscriptingRef, FuncExpr, NamedArgExpr, OpExpr, DistinctExpr, NullIfExpr, ScalarArrayOpExpr,
    BoolExpr, SubLink, SubPlan, AlternativeSubPlan, FieldSelect, FieldStore, RelabelType, CoerceViaIo,
    ArrayCoerceExpr, ConvertRowtypeExpr, CollateExpr, CaseExpr, CaseWhen, CaseTestExpr, ArrayExpr, RowExpr,
    RowCompareExpr, CoalesceExpr, MinMaxExpr, SqlvalueFunction, XmlExpr, JsonFormat, JsonReturning, JsonValueExpr,
    JsonConstructorExpr, JsonIsPredicate, JsonBehavior, JsonExpr, JsonTablePath, JsonTablePathScan,
    JsonTableSiblingJoin, NullTest, BooleanTest, MergeAction, CoerceToDomain, CoerceToDomainValue, SetToDefault,
    CurrentOfExpr, NextValueExpr, InferenceElem, ReturningExpr, TargetEntry, RangeTblRef, JoinExpr, FromExpr,
    OnConflictExpr, Query, TypeName, ColumnRef, ParamRef, AExpr, TypeCast, CollateClause, RoleSpec, FuncCall, AStar,
    AIndices, AIndirection, AArrayExpr, ResTarget, MultiAssignRef, SortBy, WindowDef, RangeSubselect, RangeFunction,
    RangeTableFunc, RangeTableFuncCol, RangeTableSample, ColumnDef, TableLikeClause, IndexElem, DefElem,
    LockingClause, XmlSerialize, PartitionElem, PartitionSpec, PartitionBoundSpec, PartitionRangeDatum,
    PartitionCmd, RangeTblEntry, RtepermissionInfo, RangeTblFunction, TableSampleClause, WithCheckOption,
    SortGroupClause, GroupingSet, WindowClause, RowMarkClause, WithClause, InferClause, OnConflictClause,
    CtesearchClause, CtecycleClause, CommonTableExpr, MergeWhenClause, ReturningOption, ReturningClause,
    TriggerTransition, JsonOutput, JsonArgument, JsonFuncExpr, JsonTablePathSpec, JsonTable, JsonTableColumn,
    JsonKeyValue, JsonParseExpr, JsonScalarExpr, JsonSerializeExpr, JsonObjectConstructor, JsonArrayConstructor,
    JsonArrayQueryConstructor, JsonAggConstructor, JsonObjectAgg, JsonArrayAgg, RawStmt, InsertStmt, DeleteStmt,
    UpdateStmt, MergeStmt, SelectStmt, SetOperationStmt, ReturnStmt, PlassignStmt, CreateSchemaStmt, AlterTableStmt,
    AlterTableCmd, AtalterConstraint, ReplicaIdentityStmt, AlterCollationStmt, AlterDomainStmt, GrantStmt,
    ObjectWithArgs, AccessPriv, GrantRoleStmt, AlterDefaultPrivilegesStmt, CopyStmt, VariableSetStmt,
    VariableShowStmt, CreateStmt, Constraint, CreateTableSpaceStmt, DropTableSpaceStmt, AlterTableSpaceOptionsStmt,
    AlterTableMoveAllStmt, CreateExtensionStmt, AlterExtensionStmt, AlterExtensionContentsStmt, CreateFdwStmt,
    AlterFdwStmt, CreateForeignServerStmt, AlterForeignServerStmt, CreateForeignTableStmt, CreateUserMappingStmt,
    AlterUserMappingStmt, DropUserMappingStmt, ImportForeignSchemaStmt, CreatePolicyStmt, AlterPolicyStmt,
    CreateAmStmt, CreateTrigStmt, CreateEventTrigStmt, AlterEventTrigStmt, CreatePlangStmt, CreateRoleStmt,
    AlterRoleStmt, AlterRoleSetStmt, DropRoleStmt, CreateSeqStmt, AlterSeqStmt, DefineStmt, CreateDomainStmt,
    CreateOpClassStmt, CreateOpClassItem, CreateOpFamilyStmt, AlterOpFamilyStmt, DropStmt, TruncateStmt,
    CommentStmt, SecLabelStmt, DeclareCursorStmt, ClosePortalStmt, FetchStmt, IndexStmt, CreateStatsStmt, StatsElem,
    AlterStatsStmt, CreateFunctionStmt, FunctionParameter, AlterFunctionStmt, DoStmt, InlineCodeBlock, CallStmt,
    CallContext, RenameStmt, AlterObjectDependsStmt, AlterObjectSchemaStmt, AlterOwnerStmt, AlterOperatorStmt,
    AlterTypeStmt, RuleStmt, NotifyStmt, ListenStmt, UnlistenStmt, TransactionStmt, CompositeTypeStmt,
    CreateEnumStmt, CreateRangeStmt, AlterEnumStmt, ViewStmt, LoadStmt, CreatedbStmt, AlterDatabaseStmt,
    AlterDatabaseRefreshCollStmt, AlterDatabaseSetStmt, DropdbStmt, AlterSystemStmt, ClusterStmt, VacuumStmt,
    VacuumRelation, ExplainStmt, CreateTableAsStmt, RefreshMatViewStmt, CheckPointStmt, DiscardStmt, LockStmt,
    ConstraintsSetStmt, ReindexStmt, CreateConversionStmt, CreateCastStmt, CreateTransformStmt, PrepareStmt,
    ExecuteStmt, DeallocateStmt, DropOwnedStmt, ReassignOwnedStmt, AlterTsdictionaryStmt, AlterTsconfigurationStmt,
    PublicationTable, PublicationObjSpec, CreatePublicationStmt, AlterPublicationStmt, CreateSubscriptionStmt,
    AlterSubscriptionStmt, DropSubscriptionStmt, Integer, Float, Boolean, String, BitString, List, IntList, OidList,
    AConst,
}

macro_rules! analysed {
    ($($kind:ident),* $(,)?) => {
        $(impl Visit for pb::$kind {
            fn visit(&self, walk: &mut Walk) {
                walk.unseen(concat!("a node that no statement as written has (", stringify!($kind), ")"));
            }
        })*
    };
}

analysed! {
    TableFunc, Var, Param, Aggref, WindowFunc, WindowFuncRunCondition, SubscriptingRef, FuncExpr, OpExpr,
    DistinctExpr, NullIfExpr, ScalarArrayOpExpr, SubPlan, AlternativeSubPlan, FieldSelect, FieldStore, RelabelType,
    CoerceViaIo, ArrayCoerceExpr, ConvertRowtypeExpr, CollateExpr, CaseTestExpr, ArrayExpr, RowCompareExpr,
    JsonConstructorExpr, JsonExpr, JsonTablePath, JsonTablePathScan, JsonTableSiblingJoin, CoerceToDomain,
    CoerceToDomainValue, NextValueExpr, InferenceElem, ReturningExpr, TargetEntry, RangeTblRef, FromExpr,
    OnConflictExpr, Query, RangeTblEntry, RtePermissionInfo, RangeTblFunction, TableSampleClause, WithCheckOption,
    SortGroupClause, WindowClause, RowMarkClause, SetOperationStmt, PlAssignStmt, InlineCodeBlock, CallContext,
    MergeAction, IntList, OidList,
}

macro_rules! plain {
    ($($kind:ident),* $(,)?) => {
        $(impl Visit for pb::$kind {
            fn visit(&self, walk: &mut Walk) {
                self.children(walk);
            }
        })*
    };
}

// Nodes that mean no more than what is below them.
plain! {
    GroupingFunc, MergeSupportFunc, NamedArgExpr, BoolExpr, CaseWhen, RowExpr, CoalesceExpr, MinMaxExpr,
    SqlValueFunction, XmlExpr, JsonFormat, JsonReturning, JsonValueExpr, JsonIsPredicate, JsonBehavior, NullTest,
    BooleanTest, SetToDefault, CurrentOfExpr, ParamRef, TypeCast, CollateClause, AIndices, AArrayExpr,
    MultiAssignRef, WindowDef, RangeTableFunc, RangeTableFuncCol, ColumnDef, TableLikeClause,
    IndexElem, DefElem, XmlSerialize, PartitionElem, PartitionSpec, PartitionBoundSpec, PartitionRangeDatum,
    PartitionCmd, GroupingSet, InferClause, CteSearchClause, CteCycleClause, TriggerTransition,
    JsonOutput, JsonArgument, JsonFuncExpr, JsonTablePathSpec, JsonTable, JsonTableColumn, JsonKeyValue,
    JsonParseExpr, JsonScalarExpr, JsonSerializeExpr, JsonObjectConstructor, JsonArrayConstructor,
    JsonArrayQueryConstructor, JsonAggConstructor, JsonObjectAgg, JsonArrayAgg, RawStmt, ReturnStmt,
    AtAlterConstraint, AccessPriv, Constraint, CreateOpClassItem, StatsElem, FunctionParameter, VacuumRelation,
    PublicationTable, PublicationObjSpec, Integer, Float, Boolean, String, BitString, AConst,
}

macro_rules! fields {
    ($($kind:ident { $($field:ident),* $(,)? })*) => {
        $(impl Branch for pb::$kind {
            #[allow(unused_variables, reason = "a node without fields visits nothing")]
            fn children(&self, walk: &mut Walk) {
                let pb::$kind { $($field),* } = self;
                $($field.visit(walk);)*
            }
        })*
    };
}

fields! {
    Alias { aliasname, colnames }
    RangeVar { catalogname, schemaname, relname, inh, relpersistence, alias, location }
    IntoClause { rel, col_names, access_method, options, on_commit, table_space_name, view_query, skip_data }
    GroupingFunc { xpr, args, refs, agglevelsup, location }
    MergeSupportFunc { xpr, msftype, msfcollid, location }
    NamedArgExpr { xpr, arg, name, argnumber, location }
    BoolExpr { xpr, boolop, args, location }
    SubLink { xpr, sub_link_type, sub_link_id, testexpr, oper_name, subselect, location }
    CaseExpr { xpr, casetype, casecollid, arg, args, defresult, location }
    CaseWhen { xpr, expr, result, location }
    RowExpr { xpr, args, row_typeid, row_format, colnames, location }
    CoalesceExpr { xpr, coalescetype, coalescecollid, args, location }
    MinMaxExpr { xpr, minmaxtype, minmaxcollid, inputcollid, op, args, location }
    SqlValueFunction { xpr, op, r#type, typmod, location }
    XmlExpr { xpr, op, name, named_args, arg_names, args, xmloption, indent, r#type, typmod, location }
    JsonFormat { format_type, encoding, location }
    JsonReturning { format, typid, typmod }
    JsonValueExpr { raw_expr, formatted_expr, format }
    JsonIsPredicate { expr, format, item_type, unique_keys, location }
    JsonBehavior { btype, expr, coerce, location }
    NullTest { xpr, arg, nulltesttype, argisrow, location }
    BooleanTest { xpr, arg, booltesttype, location }
    SetToDefault { xpr, type_id, type_mod, collation, location }
    CurrentOfExpr { xpr, cvarno, cursor_name, cursor_param }
    JoinExpr { jointype, is_natural, larg, rarg, using_clause, join_using_alias, quals, alias, rtindex }
    TypeName { names, type_oid, setof, pct_type, typmods, typemod, array_bounds, location }
    ColumnRef { fields, location }
    ParamRef { number, location }
    AExpr { kind, name, lexpr, rexpr, rexpr_list_start, rexpr_list_end, location }
    TypeCast { arg, type_name, location }
    CollateClause { arg, collname, location }
    RoleSpec { roletype, rolename, location }
    FuncCall {
        funcname, args, agg_order, agg_filter, over, agg_within_group, agg_star, agg_distinct, func_variadic,
        funcformat, location
    }
    AStar { }
    AIndices { is_slice, lidx, uidx }
    AIndirection { arg, indirection }
    AArrayExpr { elements, list_start, list_end, location }
    ResTarget { name, indirection, val, location }
    MultiAssignRef { source, colno, ncolumns }
    SortBy { node, sortby_dir, sortby_nulls, use_op, location }
    WindowDef { name, refname, partition_clause, order_clause, frame_options, start_offset, end_offset, location }
    RangeSubselect { lateral, subquery, alias }
    RangeFunction { lateral, ordinality, is_rowsfrom, functions, alias, coldeflist }
    RangeTableFunc { lateral, docexpr, rowexpr, namespaces, columns, alias, location }
    RangeTableFuncCol { colname, type_name, for_ordinality, is_not_null, colexpr, coldefexpr, location }
    RangeTableSample { relation, method, args, repeatable, location }
    ColumnDef {
        colname, type_name, compression, inhcount, is_local, is_not_null, is_from_type, storage, storage_name,
        raw_default, cooked_default, identity, identity_sequence, generated, coll_clause, coll_oid, constraints,
        fdwoptions, location
    }
    TableLikeClause { relation, options, relation_oid }
    IndexElem { name, expr, indexcolname, collation, opclass, opclassopts, ordering, nulls_ordering }
    DefElem { defnamespace, defname, arg, defaction, location, arg_location }
    LockingClause { locked_rels, strength, wait_policy }
    XmlSerialize { xmloption, expr, type_name, indent, location }
    PartitionElem { name, expr, collation, opclass, location }
    PartitionSpec { strategy, part_params, location }
    PartitionBoundSpec { strategy, is_default, modulus, remainder, listdatums, lowerdatums, upperdatums, location }
    PartitionRangeDatum { kind, value, location }
    PartitionCmd { name, bound, concurrent }
    GroupingSet { kind, content, location }
    WithClause { ctes, recursive, location }
    InferClause { index_elems, where_clause, conname, location }
    OnConflictClause { action, infer, target_list, where_clause, location }
    CteSearchClause { search_col_list, search_breadth_first, search_seq_column, location }
    CteCycleClause {
        cycle_col_list, cycle_mark_column, cycle_mark_value, cycle_mark_default, cycle_path_column, location,
        cycle_mark_type, cycle_mark_typmod, cycle_mark_collation, cycle_mark_neop
    }
    CommonTableExpr {
        ctename, aliascolnames, ctematerialized, ctequery, search_clause, cycle_clause, location, cterecursive,
        cterefcount, ctecolnames, ctecoltypes, ctecoltypmods, ctecolcollations
    }
    MergeWhenClause { match_kind, command_type, r#override, condition, target_list, values }
    ReturningOption { option, value, location }
    ReturningClause { options, exprs }
    TriggerTransition { name, is_new, is_table }
    JsonOutput { type_name, returning }
    JsonArgument { val, name }
    JsonFuncExpr {
        op, column_name, context_item, pathspec, passing, output, on_empty, on_error, wrapper, quotes, location
    }
    JsonTablePathSpec { string, name, name_location, location }
    JsonTable { context_item, pathspec, passing, columns, on_error, alias, lateral, location }
    JsonTableColumn {
        coltype, name, type_name, pathspec, format, wrapper, quotes, columns, on_empty, on_error, location
    }
    JsonKeyValue { key, value }
    JsonParseExpr { expr, output, unique_keys, location }
    JsonScalarExpr { expr, output, location }
    JsonSerializeExpr { expr, output, location }
    JsonObjectConstructor { exprs, output, absent_on_null, unique, location }
    JsonArrayConstructor { exprs, output, absent_on_null, location }
    JsonArrayQueryConstructor { query, output, format, absent_on_null, location }
    JsonAggConstructor { output, agg_filter, agg_order, over, location }
    JsonObjectAgg { constructor, arg, absent_on_null, unique }
    JsonArrayAgg { constructor, arg, absent_on_null }
    RawStmt { stmt, stmt_location, stmt_len }
    InsertStmt { relation, cols, select_stmt, on_conflict_clause, returning_clause, with_clause, r#override }
    DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause }
    UpdateStmt { relation, target_list, where_clause, from_clause, returning_clause, with_clause }
    MergeStmt { relation, source_relation, join_condition, merge_when_clauses, returning_clause, with_clause }
    SelectStmt {
        distinct_clause, into_clause, target_list, from_clause, where_clause, group_clause, group_distinct,
        having_clause, window_clause, values_lists, sort_clause, limit_offset, limit_count, limit_option,
        locking_clause, with_clause, op, all, larg, rarg
    }
    ReturnStmt { returnval }
    CreateSchemaStmt { schemaname, authrole, schema_elts, if_not_exists }
    AlterTableStmt { relation, cmds, objtype, missing_ok }
    AlterTableCmd { subtype, name, num, newowner, def, behavior, missing_ok, recurse }
    AtAlterConstraint {
        conname, alter_enforceability, is_enforced, alter_deferrability, deferrable, initdeferred,
        alter_inheritability, noinherit
    }
    ReplicaIdentityStmt { identity_type, name }
    AlterCollationStmt { collname }
    AlterDomainStmt { subtype, type_name, name, def, behavior, missing_ok }
    GrantStmt { is_grant, targtype, objtype, objects, privileges, grantees, grant_option, grantor, behavior }
    ObjectWithArgs { objname, objargs, objfuncargs, args_unspecified }
    AccessPriv { priv_name, cols }
    GrantRoleStmt { granted_roles, grantee_roles, is_grant, opt, grantor, behavior }
    AlterDefaultPrivilegesStmt { options, action }
    CopyStmt { relation, query, attlist, is_from, is_program, filename, options, where_clause }
    VariableSetStmt { kind, name, args, jumble_args, is_local, location }
    VariableShowStmt { name }
    CreateStmt {
        relation, table_elts, inh_relations, partbound, partspec, of_typename, constraints, nnconstraints,
        options, oncommit, tablespacename, access_method, if_not_exists
    }
    Constraint {
        contype, conname, deferrable, initdeferred, is_enforced, skip_validation, initially_valid,
        is_no_inherit, raw_expr, cooked_expr, generated_when, generated_kind, nulls_not_distinct, keys,
        without_overlaps, including, exclusions, options, indexname, indexspace, reset_default_tblspc,
        access_method, where_clause, pktable, fk_attrs, pk_attrs, fk_with_period, pk_with_period, fk_matchtype,
        fk_upd_action, fk_del_action, fk_del_set_cols, old_conpfeqop, old_pktable_oid, location
    }
    CreateTableSpaceStmt { tablespacename, owner, location, options }
    DropTableSpaceStmt { tablespacename, missing_ok }
    AlterTableSpaceOptionsStmt { tablespacename, options, is_reset }
    AlterTableMoveAllStmt { orig_tablespacename, objtype, roles, new_tablespacename, nowait }
    CreateExtensionStmt { extname, if_not_exists, options }
    AlterExtensionStmt { extname, options }
    AlterExtensionContentsStmt { extname, action, objtype, object }
    CreateFdwStmt { fdwname, func_options, options }
    AlterFdwStmt { fdwname, func_options, options }
    CreateForeignServerStmt { servername, servertype, version, fdwname, if_not_exists, options }
    AlterForeignServerStmt { servername, version, options, has_version }
    CreateForeignTableStmt { base_stmt, servername, options }
    CreateUserMappingStmt { user, servername, if_not_exists, options }
    AlterUserMappingStmt { user, servername, options }
    DropUserMappingStmt { user, servername, missing_ok }
    ImportForeignSchemaStmt { server_name, remote_schema, local_schema, list_type, table_list, options }
    CreatePolicyStmt { policy_name, table, cmd_name, permissive, roles, qual, with_check }
    AlterPolicyStmt { policy_name, table, roles, qual, with_check }
    CreateAmStmt { amname, handler_name, amtype }
    CreateTrigStmt {
        replace, isconstraint, trigname, relation, funcname, args, row, timing, events, columns, when_clause,
        transition_rels, deferrable, initdeferred, constrrel
    }
    CreateEventTrigStmt { trigname, eventname, whenclause, funcname }
    AlterEventTrigStmt { trigname, tgenabled }
    CreatePLangStmt { replace, plname, plhandler, plinline, plvalidator, pltrusted }
    CreateRoleStmt { stmt_type, role, options }
    AlterRoleStmt { role, options, action }
    AlterRoleSetStmt { role, database, setstmt }
    DropRoleStmt { roles, missing_ok }
    CreateSeqStmt { sequence, options, owner_id, for_identity, if_not_exists }
    AlterSeqStmt { sequence, options, for_identity, missing_ok }
    DefineStmt { kind, oldstyle, defnames, args, definition, if_not_exists, replace }
    CreateDomainStmt { domainname, type_name, coll_clause, constraints }
    CreateOpClassStmt { opclassname, opfamilyname, amname, datatype, items, is_default }
    CreateOpClassItem { itemtype, name, number, order_family, class_args, storedtype }
    CreateOpFamilyStmt { opfamilyname, amname }
    AlterOpFamilyStmt { opfamilyname, amname, is_drop, items }
    DropStmt { objects, remove_type, behavior, missing_ok, concurrent }
    TruncateStmt { relations, restart_seqs, behavior }
    CommentStmt { objtype, object, comment }
    SecLabelStmt { objtype, object, provider, label }
    DeclareCursorStmt { portalname, options, query }
    ClosePortalStmt { portalname }
    FetchStmt { direction, how_many, portalname, ismove }
    IndexStmt {
        idxname, relation, access_method, table_space, index_params, index_including_params, options,
        where_clause, exclude_op_names, idxcomment, index_oid, old_number, old_create_subid,
        old_first_relfilelocator_subid, unique, nulls_not_distinct, primary, isconstraint, iswithoutoverlaps,
        deferrable, initdeferred, transformed, concurrent, if_not_exists, reset_default_tblspc
    }
    CreateStatsStmt { defnames, stat_types, exprs, relations, stxcomment, transformed, if_not_exists }
    StatsElem { name, expr }
    AlterStatsStmt { defnames, stxstattarget, missing_ok }
    CreateFunctionStmt { is_procedure, replace, funcname, parameters, return_type, options, sql_body }
    FunctionParameter { name, arg_type, mode, defexpr, location }
    AlterFunctionStmt { objtype, func, actions }
    DoStmt { args }
    CallStmt { funccall, funcexpr, outargs }
    RenameStmt { rename_type, relation_type, relation, object, subname, newname, behavior, missing_ok }
    AlterObjectDependsStmt { object_type, relation, object, extname, remove }
    AlterObjectSchemaStmt { object_type, relation, object, newschema, missing_ok }
    AlterOwnerStmt { object_type, relation, object, newowner }
    AlterOperatorStmt { opername, options }
    AlterTypeStmt { type_name, options }
    RuleStmt { relation, rulename, where_clause, event, instead, actions, replace }
    NotifyStmt { conditionname, payload, payload_location }
    ListenStmt { conditionname }
    UnlistenStmt { conditionname }
    TransactionStmt { kind, options, savepoint_name, gid, chain, location }
    CompositeTypeStmt { typevar, coldeflist }
    CreateEnumStmt { type_name, vals }
    CreateRangeStmt { type_name, params }
    AlterEnumStmt { type_name, old_val, new_val, new_val_neighbor, new_val_is_after, skip_if_new_val_exists }
    ViewStmt { view, aliases, query, replace, options, with_check_option }
    LoadStmt { filename }
    CreatedbStmt { dbname, options }
    AlterDatabaseStmt { dbname, options }
    AlterDatabaseRefreshCollStmt { dbname }
    AlterDatabaseSetStmt { dbname, setstmt }
    DropdbStmt { dbname, missing_ok, options }
    AlterSystemStmt { setstmt }
    ClusterStmt { relation, indexname, params }
    VacuumStmt { options, rels, is_vacuumcmd }
    VacuumRelation { relation, oid, va_cols }
    ExplainStmt { query, options }
    CreateTableAsStmt { query, into, objtype, is_select_into, if_not_exists }
    RefreshMatViewStmt { concurrent, skip_data, relation }
    CheckPointStmt { }
    DiscardStmt { target }
    LockStmt { relations, mode, nowait }
    ConstraintsSetStmt { constraints, deferred }
    ReindexStmt { kind, relation, name, params }
    CreateConversionStmt { conversion_name, for_encoding_name, to_encoding_name, func_name, def }
    CreateCastStmt { sourcetype, targettype, func, context, inout }
    CreateTransformStmt { replace, type_name, lang, fromsql, tosql }
    PrepareStmt { name, argtypes, query }
    ExecuteStmt { name, params }
    DeallocateStmt { name, isall, location }
    DropOwnedStmt { roles, behavior }
    ReassignOwnedStmt { roles, newrole }
    AlterTsDictionaryStmt { dictname, options }
    AlterTsConfigurationStmt { kind, cfgname, tokentype, dicts, r#override, replace, missing_ok }
    PublicationTable { relation, where_clause, columns }
    PublicationObjSpec { pubobjtype, name, pubtable, location }
    CreatePublicationStmt { pubname, options, pubobjects, for_all_tables }
    AlterPublicationStmt { pubname, options, pubobjects, for_all_tables, action }
    CreateSubscriptionStmt { subname, conninfo, publication, options, conninfo_location }
    AlterSubscriptionStmt { kind, subname, conninfo, publication, options, conninfo_location }
    DropSubscriptionStmt { subname, missing_ok, behavior }
    Integer { ival }
    Float { fval }
    Boolean { boolval }
    String { sval }
    BitString { bsval }
    List { items }
    AConst { isnull, location, val }
}
